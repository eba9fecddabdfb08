import type { Connection, ConnectOptions } from 'mongoose';

/** Mongoose's `ConnectionStates.disconnected`, which Node can't import by name. */
const DISCONNECTED = 0;

/**
 * Resolves when the application's connection is open.
 *
 * Mongoose looks for the server of a new connection once, for `serverSelectionTimeoutMS`, and never again; only a connection
 * that was open before comes back by itself. With `lazyConnection` an application would start without its server and stay
 * without it. So what Mongoose has given up is asked for again, as the application asked for it, with each call.
 * A connection that the application itself has closed stays closed.
 */
export async function firstConnection(connection: Connection): Promise<void> {
  try {
    await connection.asPromise();
  } catch (error) {
    const again = givenUp(connection);
    if (!again) throw error;
    await connection.openUri(again.uri, again.options);
  }
}

interface Kept {
  readonly _connectionString?: string;
  readonly _connectionOptions?: ConnectOptions;
  readonly $dbName?: string;
  readonly _closeCalled?: boolean;
}

/** What the connection was to be; undefined if it is not known, or not wanted any more. */
function givenUp(connection: Connection): { readonly uri: string; readonly options: ConnectOptions } | undefined {
  if (connection.readyState !== DISCONNECTED) return undefined;
  // Mongoose keeps these for its own use and has no public name for them.
  const {
    _connectionString: uri,
    _connectionOptions: options,
    $dbName: dbName,
    _closeCalled: closed,
  } = connection as unknown as Kept;
  if (closed === true || uri === undefined) return undefined;
  return { uri, options: { ...options, ...(dbName === undefined ? {} : { dbName }) } };
}
