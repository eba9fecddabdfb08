import 'reflect-metadata';
import { Injectable } from '@nestjs/common';
import { MinibatchModule, StatusService, Streaming, StreamService, type Window } from 'nestjs-minibatch';
import { postgresStore } from 'nestjs-minibatch/postgres';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openSchema } from '../support/postgres-server.js';
import { closeAll, later, Log, SOON, start } from './support/applications.js';

@Injectable()
class Flights {
  readonly seen: unknown[] = [];

  @Streaming('flights', { size: 1 })
  all({ data }: Window): void {
    this.seen.push(...data);
  }
}

afterEach(closeAll);

describe('a running application on PostgreSQL', () => {
  it('continues when somebody drops its schema', { timeout: 60_000 }, async () => {
    const { url, schema, query, dispose } = openSchema();
    later(dispose);
    const log = new Log();
    const store = postgresStore({ connectionString: url, schema });
    const app = await start(
      { imports: [MinibatchModule.forRoot({ leaseTime: 3_000, store })], providers: [Flights] },
      log,
    );
    const streams = app.get(StreamService, { strict: false });
    const { seen } = app.get(Flights);
    await streams.append('flights', 'first', { dedupeId: 'first' });
    await vi.waitUntil(async () => (await streams.stream('flights').stats()).buffered === 0, SOON);
    expect(seen).toEqual(['first']);

    await query(`drop schema ${schema} cascade`);
    // The store makes its tables at the next call, and the consumer takes its lease again.
    await vi.waitUntil(async () => {
      const found = await query<{ held: boolean }>(
        `select owner is not null as held from minibatch.consumer where grp = 'default'`,
      ).catch(() => []);
      return found[0]?.held;
    }, SOON);
    await streams.append('flights', 'second', { dedupeId: 'second' });
    await vi.waitUntil(() => seen.includes('second'), SOON);
    await vi.waitUntil(async () => (await streams.stream('flights').stats()).buffered === 0, SOON);
    expect(seen).toEqual(['first', 'second']);
    expect(await app.get(StatusService, { strict: false }).health()).toEqual({ status: 'ok', reasons: [] });
    expect(log.lines.join('\n')).not.toContain('another process');
    expect(log.lines.filter((line) => line.startsWith('warn: PostgreSQL has fsync = off'))).toHaveLength(1);
  });
});
