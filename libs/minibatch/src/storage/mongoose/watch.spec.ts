import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { startMongo, type MongoServer } from '../../../../../scripts/servers/mongo/mongo.mjs';
import { openDatabase } from '../../../../../test/support/mongo-server.js';
import { appendAll, keyOf, messageOf, openStore } from '../../../../../test/support/mongoose-store.js';
import { buryAll } from './letters.spec.support.js';

describe('wake-ups', () => {
  let server: MongoServer;
  beforeAll(async () => {
    server = await startMongo({ oplog: true });
  });
  afterAll(() => server.stop());

  it('come by change stream where the server has one', async () => {
    const test = await openStore({ database: openDatabase(server.uri) });
    const abort = new AbortController();
    const woken: string[] = [];
    let tell = () => {};
    const first = new Promise<void>((resolve) => (tell = resolve));
    await appendAll(test.store, [messageOf('before', 1)]);
    const watching = await test.store.watch((stream) => {
      woken.push(stream);
      tell();
    }, abort.signal);
    expect(watching).toBe(true);
    await appendAll(test.store, [messageOf('flights', 1)]);
    await first;
    expect(woken).toEqual(['flights']);

    // Not for the hidden copy of a redrive. What shows it is an update, and this server does not say what an update has changed.
    await test.connection.collection('buffer').insertOne({ stream: 'quiet', processed: true, redrives: ['letter'] });
    const second = new Promise<void>((resolve) => (tell = resolve));
    await appendAll(test.store, [messageOf('after', 1)]);
    await second;
    expect(woken).toEqual(['flights', 'after']);
    abort.abort();
    await test.dispose();
  });

  it.runIf(inject('mongoSupports').changeStreams)('come for redriven messages', async () => {
    const test = await openStore();
    const abort = new AbortController();
    await buryAll(test.store, 'flights', [1]);
    const redrive = () => test.store.redrive('flights', {});
    const woken = new Promise<string>((resolve) => void test.store.watch(resolve, abort.signal).then(redrive));
    expect(await woken).toBe('flights');
    abort.abort();
    await test.dispose();
  });

  it('are polled for where it has none', async () => {
    const test = await openStore();
    if (test.connection.getClient().options.replicaSet) return test.dispose();
    const abort = new AbortController();
    const watching = await test.store.watch(() => {}, abort.signal);
    const before = await test.store.poll([keyOf('flights'), keyOf('other')]);
    await appendAll(test.store, [messageOf('flights', 1)]);
    const after = await test.store.poll([keyOf('flights'), keyOf('other')]);
    expect(after.map((token, i) => token !== before[i])).toEqual([true, false]);
    expect(watching).toBeTypeOf('boolean');
    abort.abort();
    return test.dispose();
  });
});
