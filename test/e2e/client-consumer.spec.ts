import type { Connection } from 'mongoose';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { mongoStore, openStream } from 'nestjs-minibatch/client';
import { repository } from '../support/workspace.js';
import { closeAll, SOON, uriOf, useDatabase } from './support/applications.js';
import { endProcesses, NodeProcess } from './support/node-process.js';

const PROGRAM = repository('test/fixtures/e2e/client-consumer.mjs');
const KILLS = 4;
const BATCH = 50;

describe('a program without Nest that consumes', { timeout: 90_000 }, () => {
  let connection: Connection;
  let uri: string;
  beforeEach(async () => {
    const database = useDatabase();
    uri = uriOf(database);
    connection = await database.connect();
  });
  afterEach(async () => {
    await endProcesses();
    await closeAll();
  });

  it('loses nothing when it is killed and started again', async () => {
    await using numbers = await openStream<number>(mongoStore(uri), 'numbers', {
      log: { log() {}, warn() {}, error() {} },
    });
    const taken: number[] = [];
    const boot = async () => {
      const program = new NodeProcess(PROGRAM, [uri]);
      program.follow((line) => {
        if (line.startsWith('took ')) taken.push(...line.slice('took '.length).split(',').map(Number));
      });
      await program.line(/^ready$/);
      return program;
    };
    let program = await boot();
    let appended = 0;
    for (let kill = 0; kill <= KILLS; kill += 1) {
      const before = taken.length;
      await numbers.appendMany(Array.from({ length: BATCH }, () => (appended += 1)));
      await vi.waitUntil(() => taken.length > before, SOON);
      if (kill === KILLS) break;
      await program.kill('SIGKILL');
      program = await boot();
    }
    await vi.waitUntil(async () => (await connection.collection('buffer').countDocuments()) === 0, SOON);
    expect([...new Set(taken)].toSorted((a, b) => a - b)).toEqual(Array.from({ length: appended }, (_, i) => i + 1));
    expect(await connection.collection('deadletter').countDocuments()).toBe(0);
  });

  it('can open the store again after it was closed', async () => {
    const store = await mongoStore(uri).useFactory();
    await store.open();
    await store.ensureStream('numbers');
    await store.close();
    await store.open();
    expect(await store.describeStream('numbers')).toMatchObject({ name: 'numbers' });
    await store.close();
  });
});
