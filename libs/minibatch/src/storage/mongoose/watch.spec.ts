import type { Connection, mongo } from 'mongoose';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { startReplicaSet } from '../../../../../scripts/servers/mongo/mongo.mjs';
import { failCommands } from '../../../../../test/support/fail-points.js';
import { openDatabase, openReplicaSet } from '../../../../../test/support/mongo-server.js';
import { appendAll, keyOf, messageOf, openStore, useStore } from '../../../../../test/support/mongoose-store.js';
import { whereMissing } from '../../../../../test/support/server-differences.js';
import { buryAll } from './dead-letters.spec.support.js';

/** What a watch has told. */
class Heard {
  readonly woken: string[] = [];
  readonly states: string[] = [];
  readonly wake = (stream: string) => void this.woken.push(stream);
  readonly started = () => void this.states.push('started');
  readonly failed = (error: unknown) => void this.states.push(error instanceof Error ? error.message : String(error));

  until(condition: (heard: Heard) => boolean): Promise<unknown> {
    return vi.waitUntil(() => condition(this), { timeout: 50_000, interval: 5 });
  }
}

/** As another process appends: its ids are not ours. */
function appendElsewhere(connection: Connection, stream: string, more: mongo.Document = {}): Promise<unknown> {
  const document = { stream, processed: false, created: new Date(), data: 'x'.repeat(1000), ...more };
  return connection.collection('buffer').insertOne(document);
}

describe('wake-ups by change stream', () => {
  const test = useStore(() => ({ database: openReplicaSet() }));
  let abort: AbortController;
  let heard: Heard;
  let watching: Promise<void>;

  beforeEach(() => {
    abort = new AbortController();
    heard = new Heard();
  });

  afterEach(async () => {
    abort.abort();
    await watching;
  });

  const watch = async (streams: readonly string[]) => {
    watching = test.store.watch(streams, heard, abort.signal);
    await heard.until(({ states }) => states.includes('started'));
    // It may have missed what came before.
    await heard.until(({ woken }) => woken.length >= streams.length);
    heard.woken.length = 0;
  };

  it('tell of what other processes append', async () => {
    await watch(['flights', 'trains']);
    await appendElsewhere(test.connection, 'flights');
    await heard.until(({ woken }) => woken.length === 1);
    // Not for the hidden copy of a redrive.
    await appendElsewhere(test.connection, 'flights', { processed: true });
    await appendElsewhere(test.connection, 'trains');
    await heard.until(({ woken }) => woken.length === 2);
    expect(heard.woken).toEqual(['flights', 'trains']);
    expect(heard.states).toEqual(['started']);
  });

  it('continue when others use ids of any kind', async () => {
    await watch(['flights']);
    const ids = [{ a: { b: 1 } }, 'é'.repeat(12), 7, new Date(0), 'x'];
    for (const _id of ids) await appendElsewhere(test.connection, 'flights', { _id });
    await heard.until(({ woken }) => woken.length === ids.length);
    expect(heard.states).toEqual(['started']);
  });

  it('make the server send the names of the streams, of these streams, and nothing that this process appended', async () => {
    const sent: mongo.Document[] = [];
    test.connection.getClient().on('commandSucceeded', ({ commandName, reply }) => {
      if (commandName === 'getMore') sent.push(...((reply as mongo.Document)['cursor'].nextBatch as mongo.Document[]));
    });
    await watch(['flights']);
    await appendAll(
      test.store,
      Array.from({ length: 50 }, (_, i) => messageOf('flights', i)),
    );
    await appendElsewhere(test.connection, 'trains');
    await appendElsewhere(test.connection, 'flights');
    await heard.until(() => sent.length > 0);
    expect(sent).toMatchObject([{ operationType: 'insert' }]);
    expect(Object.keys(sent[0] ?? {}).toSorted()).toEqual(['_id', 'fullDocument', 'operationType']);
    expect(sent[0]?.['fullDocument']).toEqual({ stream: 'flights' });
  });

  it('tell of what other stores of this process append', async () => {
    await watch(['flights']);
    const other = await openStore({ database: test.database });
    await appendAll(other.store, [messageOf('flights', 1), messageOf('trains', 1)]);
    await heard.until(({ woken }) => woken.length > 0);
    expect(heard.woken).toEqual(['flights']);
  });

  it('tell of what a transaction appended when it has committed', async () => {
    await appendAll(test.store, [messageOf('flights', 0)]);
    await watch(['flights']);
    await test.connection.transaction(async (session) => {
      await test.store.append([messageOf('flights', 1)], { session });
      heard.woken.length = 0;
    });
    await heard.until(({ woken }) => woken.length === 1);
  });

  it('tell of redriven messages', async () => {
    await buryAll(test.store, 'flights', [1]);
    await watch(['flights']);
    await test.store.redrive('flights', {});
    await heard.until(({ woken }) => woken.length > 0);
    expect(heard.woken[0]).toBe('flights');
  });

  it.each([
    ['dropped', (connection: Connection) => connection.collection('buffer').drop()],
    ['renamed', (connection: Connection) => connection.collection('buffer').rename('old')],
    ['gone with its database', (connection: Connection) => connection.dropDatabase()],
  ])('come back when the buffer was %s', async (_, remove) => {
    await appendElsewhere(test.connection, 'other');
    await watch(['flights']);
    await remove(test.connection);
    await heard.until(({ states }) => states.length === 2);
    expect(heard.states).toEqual(['started', 'started']);
    expect(heard.woken).toEqual(['flights']);
    await appendElsewhere(test.connection, 'flights');
    await heard.until(({ woken }) => woken.length === 2);
  });
});

describe('a change stream that is refused', () => {
  it('is asked for again', async () => {
    const server = await startReplicaSet();
    const test = await openStore({ database: openDatabase(server.uri) });
    const { connection } = test;
    const abort = new AbortController();
    const heard = new Heard();
    // The first look, and the driver's own second one.
    await failCommands({ connection, times: 2 }, { failCommands: ['aggregate'], errorCode: 13 });
    const watching = test.store.watch(['flights'], heard, abort.signal);
    await heard.until(({ states }) => states.includes('started'));
    expect(heard.states).toHaveLength(3);
    expect(heard.states[0]).toContain('failpoint');
    await appendElsewhere(connection, 'flights');
    await heard.until(({ woken }) => woken.length === 2);
    abort.abort();
    await watching;
    await test.dispose();
    await server.stop();
  });
});

whereMissing('changeStreams', () => {
  describe('a server without change streams', () => {
    it('is polled', async () => {
      const test = await openStore();
      const heard = new Heard();
      await test.store.watch(['flights'], heard, new AbortController().signal);
      expect(heard).toMatchObject({ woken: [], states: [] });
      const before = await test.store.poll([keyOf('flights'), keyOf('other')]);
      await appendAll(test.store, [messageOf('flights', 1)]);
      const after = await test.store.poll([keyOf('flights'), keyOf('other')]);
      expect(after.map((token, i) => token !== before[i])).toEqual([true, false]);
      await test.dispose();
    });
  });
});
