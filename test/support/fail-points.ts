import type { Connection } from 'mongoose';

export interface FailPoint {
  readonly failCommands: readonly string[];
  readonly errorCode?: number;
  readonly errorLabels?: readonly string[];
  readonly closeConnection?: boolean;
}

/** Lets the next of these commands, of any client, fail. The server is to be the test's own: it has one fail point at a time. */
export async function failCommands({ connection, times }: { connection: Connection; times: number }, data: FailPoint) {
  const mode = times === 0 ? 'off' : { times };
  await connection.getClient().db('admin').command({ configureFailPoint: 'failCommand', mode, data });
}
