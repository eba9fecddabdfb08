import 'reflect-metadata';
import { getConnectionToken } from '@nestjs/mongoose';
import type { TestingModule } from '@nestjs/testing';
import type { Connection } from 'mongoose';
import { MinibatchModule, StreamService } from 'nestjs-minibatch';
import { afterEach, describe, it, vi } from 'vitest';
import { closeAll, mongoose, SOON, start, useDatabase } from './support/applications.js';
import { Flights, outlives } from './support/dropped.js';

const COLLECTIONS = ['stream', 'buffer', 'window', 'consumer', 'deadletter'];

const connectionOf = (app: TestingModule) => app.get<Connection>(getConnectionToken(), { strict: false });

afterEach(closeAll);

describe('a running application', () => {
  it.each<readonly [string, (connection: Connection) => Promise<unknown>]>([
    ['its database', (connection: Connection) => connection.dropDatabase()],
    ...COLLECTIONS.map(
      (name) => [`the collection '${name}'`, (connection: Connection) => connection.collection(name).drop()] as const,
    ),
  ])('continues when somebody drops %s', { timeout: 60_000 }, async (_, drop) => {
    await outlives({
      imports: [mongoose(useDatabase()), MinibatchModule.forRoot({ leaseTime: 3_000 })],
      drop: (app) => drop(connectionOf(app)),
      isBack: async (app) => {
        const connection = connectionOf(app);
        const [stream] = await connection.collection('stream').find({ name: 'flights' }).toArray();
        const [consumer] = await connection.collection('consumer').find({ stream: 'flights' }).toArray();
        return (stream?.['groups'] as unknown[] | undefined)?.length === 1 && consumer?.['lease'].owner !== undefined;
      },
    });
  });

  it('gets to the end what is appended at once', { timeout: 60_000 }, async () => {
    const imports = [mongoose(useDatabase()), MinibatchModule.forRoot({ leaseTime: 3_000 })];
    const app = await start({ imports, providers: [Flights] });
    const streams = app.get(StreamService, { strict: false });
    const { seen } = app.get(Flights);
    for (const round of [1, 2, 3]) {
      await connectionOf(app).dropDatabase();
      await streams.append('flights', round);
      await vi.waitUntil(() => seen.includes(round), SOON);
      await vi.waitUntil(
        async () =>
          (
            await streams
              .stream('flights')
              .stats()
              .catch(() => undefined)
          )?.buffered === 0,
        SOON,
      );
    }
  });
});
