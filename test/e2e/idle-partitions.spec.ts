import { getConnectionToken } from '@nestjs/mongoose';
import type { Connection } from 'mongoose';
import { defineStream, MinibatchModule, Streaming } from 'nestjs-minibatch';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openReplicaSet } from '../support/mongo-server.js';
import { closeAll, later, mongoose, start, useDatabase } from './support/applications.js';

/** Commands of an application whose stream is idle. */
async function idle(database: ReturnType<typeof useDatabase>, partitions: number): Promise<string[]> {
  const Orders = defineStream<number>('orders', { partitions });
  class Shipping {
    @Streaming(Orders, { size: 5, interval: '50ms' })
    ship(): void {}
  }
  const imports = [mongoose(database, { monitorCommands: true }), MinibatchModule.forRoot({ leaseTime: 3_000 })];
  const app = await start({ imports, providers: [Shipping] });
  const commands: string[] = [];
  const connection = app.get<Connection>(getConnectionToken(), { strict: false });
  connection
    .getClient()
    .on('commandStarted', ({ commandName, command }) =>
      commands.push(`${commandName} ${String(command[commandName])}`),
    );
  return commands;
}

const SERVERS = [
  ['a single server', () => useDatabase()],
  [
    'a replica set',
    () => {
      const database = openReplicaSet();
      later(() => database.dispose());
      return database;
    },
  ],
] as const;

afterEach(closeAll);

describe.each(SERVERS)('a stream of eight partitions that is idle, on %s', (_, open) => {
  it('takes about as many commands as a stream of one', { timeout: 120_000 }, async () => {
    const [one, eight] = [await idle(open(), 1), await idle(open(), 8)];
    await renewed(one, 3);
    await renewed(eight, 3);
    one.length = 0;
    eight.length = 0;
    await renewed(one, 5);
    // A machine that is busy may send those of one round before, and those of the other after this look.
    expect(eight.length, eight.join(', ')).toBeLessThan(1.5 * one.length + 5);
  });
});

/** Every lease is renewed by one command, at the end of each third of the lease time. */
function renewed(commands: readonly string[], times: number): Promise<void> {
  return vi.waitFor(
    () => expect(commands.filter((command) => command === 'update consumer').length).toBeGreaterThanOrEqual(times),
    { timeout: 50_000, interval: 20 },
  );
}
