import { type Connection, mongo } from 'mongoose';
import { vi } from 'vitest';

export interface FailPoint {
  readonly failCommands: readonly string[];
  readonly errorCode?: number;
  readonly errorLabels?: readonly string[];
  readonly closeConnection?: boolean;
}

/** Lets the next of these commands, of any client, fail. The server is to be the test's own: it has one fail point at a time. */
export async function failCommands({ connection, times }: { connection: Connection; times: number }, data: FailPoint) {
  const mode = times === 0 ? 'off' : { times };
  const admin = connection.getClient().db('admin');
  // A connection that the fault before has closed takes others of its pool along.
  await vi.waitUntil(
    () =>
      admin.command({ configureFailPoint: 'failCommand', mode, data }).then(
        () => true,
        (error: unknown) => {
          if (error instanceof mongo.MongoNetworkError) return false;
          throw error;
        },
      ),
    { timeout: 10_000, interval: 20 },
  );
}
