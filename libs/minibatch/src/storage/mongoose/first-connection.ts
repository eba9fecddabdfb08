import type { Connection, ConnectOptions } from 'mongoose';

/** Mongoose's `ConnectionStates.disconnected`, which Node can't import by name. */
const DISCONNECTED = 0;

/**
 * Resolves when the application's connection is open.
 *
 * Mongoose tries to connect a new connection once, for `serverSelectionTimeoutMS`, and then gives up; only a connection that was open
 * before reconnects automatically. With `lazyConnection` an application that starts without its server would stay without it. So each call
 * opens a connection that Mongoose has given up again, as the application opened it. A connection that the application has closed stays
 * closed.
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

/** How the connection was to be opened; undefined if that is unknown or it is no longer wanted. */
function givenUp(connection: Connection): { readonly uri: string; readonly options: ConnectOptions } | undefined {
  if (connection.readyState !== DISCONNECTED) return undefined;
  // Mongoose keeps these internally, without a public name.
  const {
    _connectionString: uri,
    _connectionOptions: options,
    $dbName: dbName,
    _closeCalled: closed,
  } = connection as unknown as Kept;
  if (closed === true || uri === undefined) return undefined;
  return { uri, options: { ...options, ...(dbName === undefined ? {} : { dbName }) } };
}
