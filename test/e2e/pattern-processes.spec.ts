import 'reflect-metadata';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Injectable } from '@nestjs/common';
import { MinibatchModule, type StoreDefinition, Streaming, StreamService, type Window } from 'nestjs-minibatch';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { postgresStore } from 'nestjs-minibatch/postgres';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openSchema } from '../support/postgres-server.js';
import { closeAll, later, mongoose, SOON, start, useDatabase } from './support/applications.js';

@Injectable()
class Orders {
  readonly seen: unknown[] = [];

  @Streaming(/^orders\./, { size: 1 })
  take({ stream, data }: Window): void {
    this.seen.push([stream, ...data]);
  }
}

const own = (store: () => StoreDefinition) => () => [MinibatchModule.forRoot({ leaseTime: 3_000, store: store() })];

/** The modules of one of several applications on the same data. */
const STORES: readonly (readonly [name: string, setUp: () => () => object[]])[] = [
  [
    'MongoDB',
    () => {
      const database = useDatabase();
      return () => [mongoose(database), MinibatchModule.forRoot({ leaseTime: 3_000 })];
    },
  ],
  [
    'LMDB',
    () => {
      const path = mkdtempSync(join(tmpdir(), 'minibatch-pattern-'));
      later(async () => rmSync(path, { recursive: true, force: true }));
      return own(() => lmdbStore({ path }));
    },
  ],
  [
    'PostgreSQL',
    () => {
      const { url, schema, dispose } = openSchema();
      later(dispose);
      return own(() => postgresStore({ connectionString: url, schema }));
    },
  ],
];

afterEach(closeAll);

describe.each(STORES)('a consumer with a pattern, on %s', (_, setUp) => {
  it('finds what another application makes, grows and closes', { timeout: 60_000 }, async () => {
    const imports = setUp() as () => never[];
    const consuming = await start({ imports: imports(), providers: [Orders] });
    const producing = (await start({ imports: imports() })).get(StreamService, { strict: false });
    const { seen } = consuming.get(Orders);
    await producing.append('orders.new', 1);
    await producing.append('other', 2);
    await vi.waitUntil(() => seen.length > 0, SOON);
    expect(seen).toEqual([['orders.new', 1]]);

    await producing.append('orders.closed', 3);
    const stream = producing.stream('orders.closed');
    await stream.close();
    await stream.grow(4);
    expect(await stream.describe()).toMatchObject({ status: 'closed', partitions: 4 });
    await vi.waitUntil(() => seen.length > 1, SOON);
    expect(seen).toEqual([
      ['orders.new', 1],
      ['orders.closed', 3],
    ]);
    await vi.waitUntil(async () => (await stream.stats()).buffered === 0, SOON);
  });
});
