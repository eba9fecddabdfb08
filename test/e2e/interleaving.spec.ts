import 'reflect-metadata';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Injectable, type ModuleMetadata } from '@nestjs/common';
import { MinibatchModule, Streaming, StreamService, type Window } from 'nestjs-minibatch';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { postgresStore } from 'nestjs-minibatch/postgres';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openSchema } from '../support/postgres-server.js';
import { repository } from '../support/workspace.js';
import { closeAll, later, mongoose, SOON, start, uriOf, useDatabase } from './support/applications.js';
import { endProcesses, NodeProcess } from './support/node-process.js';

const PRODUCER = repository('test/fixtures/e2e/producer.mjs');
const WRITERS = ['a', 'b'] as const;
const EACH = 10_000;

interface Row {
  readonly writer: (typeof WRITERS)[number];
  readonly n: number;
}

/** Counts what arrives, and how much of it below an id that was seen before. */
@Injectable()
class Rows {
  readonly seen = { a: new Set<number>(), b: new Set<number>() };
  received = 0;
  below = 0;
  private highest = '';
  private listener: () => void = () => undefined;

  /** Calls it after each window. */
  onWindow(listener: () => void): void {
    this.listener = listener;
  }

  @Streaming<Row>('rows', { size: 100, interval: 20 })
  take({ messages }: Window<Row>): void {
    for (const { data } of messages) this.seen[data.writer].add(data.n);
    this.received += messages.length;
    // Within a window the order is that of the ids: only what an earlier window had passed counts.
    this.below += messages.filter(({ id }) => id < this.highest).length;
    this.highest = messages.reduce((highest, { id }) => (id > highest ? id : highest), this.highest);
    this.listener();
  }
}

afterEach(async () => {
  await endProcesses();
  await closeAll();
});

describe('two producing processes and a consumer that is caught up', () => {
  /** Runs them to their end. Resolves with the consumer when the stream is empty. */
  async function run(imports: ModuleMetadata['imports'], store: Readonly<Record<string, string>>): Promise<Rows> {
    const app = await start({ ...(imports ? { imports } : {}), providers: [Rows] });
    const rows = app.get(Rows);
    const producers = WRITERS.map((writer) => {
      const options = { ...store, stream: 'rows', writer, messages: EACH, block: 10, ahead: 400 };
      return new NodeProcess(PRODUCER, [JSON.stringify(options)]);
    });
    await Promise.all(producers.map((producer) => producer.line(/^ready$/)));
    const tell = () =>
      producers.forEach((producer, index) => producer.say(String(rows.seen[WRITERS[index] ?? 'a'].size)));
    rows.onWindow(tell);
    tell();
    await Promise.all(producers.map((producer) => producer.success()));
    await vi.waitUntil(() => rows.received >= WRITERS.length * EACH, SOON);
    const stream = app.get(StreamService, { strict: false }).stream('rows');
    await vi.waitUntil(async () => (await stream.stats()).buffered === 0, SOON);
    return rows;
  }

  const complete = (rows: Rows) => {
    for (const writer of WRITERS) expect(rows.seen[writer].size).toBe(EACH);
    // None twice: nothing failed here that would have brought a window again.
    expect(rows.received).toBe(WRITERS.length * EACH);
  };

  it(
    'on MongoDB: 20,000 messages, none skipped, though many ids appear below one seen',
    { timeout: 180_000 },
    async () => {
      const database = useDatabase();
      const rows = await run([mongoose(database), MinibatchModule.forRoot()], { store: 'mongo', uri: uriOf(database) });
      console.log(`${rows.below} of ${rows.received} ids arrived below one that had been seen`);
      complete(rows);
      // Else the test has not tried what it is for.
      expect(rows.below).toBeGreaterThan(rows.received / 5);
    },
  );

  it('on PostgreSQL: 20,000 messages, none skipped', { timeout: 180_000 }, async () => {
    const { url, schema, dispose } = openSchema();
    later(dispose);
    const store = postgresStore({ connectionString: url, schema });
    const rows = await run([MinibatchModule.forRoot({ store })], { store: 'postgres', uri: url, schema });
    console.log(`${rows.below} of ${rows.received} ids arrived below one that had been seen`);
    complete(rows);
  });

  it('on LMDB: 20,000 messages, none skipped, all in one order', { timeout: 180_000 }, async () => {
    const path = mkdtempSync(join(tmpdir(), 'minibatch-rows-'));
    later(async () => rmSync(path, { recursive: true, force: true }));
    const rows = await run([MinibatchModule.forRoot({ store: lmdbStore({ path }) })], { store: 'lmdb', path });
    complete(rows);
    expect(rows.below).toBe(0);
  });
});
