import 'reflect-metadata';
import { Injectable } from '@nestjs/common';
import { getConnectionToken } from '@nestjs/mongoose';
import type { Connection } from 'mongoose';
import { MinibatchModule, StatusService, Streaming, StreamService, type Window } from 'nestjs-minibatch';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, Log, mongoose, SOON, start, useDatabase } from './support/applications.js';

@Injectable()
class Flights {
  readonly seen: unknown[] = [];

  @Streaming('flights', { size: 1 })
  all({ data }: Window): void {
    this.seen.push(...data);
  }
}

const COLLECTIONS = ['stream', 'buffer', 'window', 'consumer', 'deadletter'];

afterEach(closeAll);

describe('a running application', () => {
  it.each<readonly [string, (connection: Connection) => Promise<unknown>]>([
    ['its database', (connection: Connection) => connection.dropDatabase()],
    ...COLLECTIONS.map(
      (name) => [`the collection '${name}'`, (connection: Connection) => connection.collection(name).drop()] as const,
    ),
  ])('continues when somebody drops %s', { timeout: 60_000 }, async (_, drop) => {
    const log = new Log();
    const imports = [mongoose(useDatabase()), MinibatchModule.forRoot({ leaseTime: 3_000 })];
    const app = await start({ imports, providers: [Flights] }, log);
    const streams = app.get(StreamService, { strict: false });
    const { seen } = app.get(Flights);
    const connection = app.get<Connection>(getConnectionToken(), { strict: false });
    await streams.append('flights', 'first', { dedupeId: 'first' });
    // Handled is not yet committed: what is dropped in between is handled again, and rightly so.
    await vi.waitUntil(async () => (await streams.stream('flights').stats()).buffered === 0, SOON);
    expect(seen).toEqual(['first']);

    await drop(connection);
    // Whatever is noticed is noticed by then; who appends earlier is served too, but perhaps twice.
    await vi.waitUntil(async () => {
      const [stream] = await connection.collection('stream').find({ name: 'flights' }).toArray();
      const [consumer] = await connection.collection('consumer').find({ stream: 'flights' }).toArray();
      return (stream?.['groups'] as unknown[] | undefined)?.length === 1 && consumer?.['lease'].owner !== undefined;
    }, SOON);
    await streams.append('flights', 'second', { dedupeId: 'second' });
    await vi.waitUntil(() => seen.includes('second'), SOON);
    await vi.waitUntil(async () => (await streams.stream('flights').stats()).buffered === 0, SOON);
    expect(seen).toEqual(['first', 'second']);
    expect(await app.get(StatusService, { strict: false }).health()).toEqual({ status: 'ok', reasons: [] });
    expect(log.lines.join('\n')).not.toContain('another process');
  });

  it('gets to the end what is appended at once', { timeout: 60_000 }, async () => {
    const imports = [mongoose(useDatabase()), MinibatchModule.forRoot({ leaseTime: 3_000 })];
    const app = await start({ imports, providers: [Flights] });
    const streams = app.get(StreamService, { strict: false });
    const { seen } = app.get(Flights);
    for (const round of [1, 2, 3]) {
      await app.get<Connection>(getConnectionToken(), { strict: false }).dropDatabase();
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
