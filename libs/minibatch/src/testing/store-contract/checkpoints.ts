import assert from 'node:assert/strict';
import type { AppendOutcome, Checkpoint } from '../../storage/stream-store.interface.js';
import type { ContractContext, TestFunctions } from './context.js';
import { key, message, ns, numbers, read, register, storePosition, STREAM } from './fixtures.js';

export function checkpointContract({ describe, it }: TestFunctions, context: ContractContext): void {
  describe('checkpoints', () => {
    it('stores the position of a source, alone and with messages', async () => {
      const { store } = context;
      const other = await context.another();
      await store.ensureStream(STREAM);
      assert.equal(await store.readCheckpoint(STREAM, 'source'), undefined);
      await storePosition(store, STREAM, 'source', { offset: 1 });
      assert.deepEqual(await other.readCheckpoint(STREAM, 'source'), { offset: 1 });
      await store.append([message({})], { checkpoints: [at({ offset: 2, list: ['a'] })] });
      assert.deepEqual(await other.readCheckpoint(STREAM, 'source'), { offset: 2, list: ['a'] });
    });

    it('stores the position on a stream that was not ensured', async () => {
      const { store } = context;
      await storePosition(store, 'fresh', 'source', 1);
      assert.equal(await store.readCheckpoint('fresh', 'source'), 1);
    });

    it('keeps sources with strange names apart', async () => {
      const { store } = context;
      await store.ensureStream(STREAM);
      const sources = ['__proto__', 'constructor', 'a.b', 'a', '$set', '', 'x'.repeat(3000)];
      for (const source of sources) await storePosition(store, STREAM, source, `at ${source}`);
      for (const source of sources) assert.equal(await store.readCheckpoint(STREAM, source), `at ${source}`);
      assert.equal(await store.readCheckpoint(STREAM, 'toString'), undefined);
      assert.equal(await store.readCheckpoint('missing', 'source'), undefined);
    });

    it('stores each position of a write with its own stream', async () => {
      const { store } = context;
      await register(store, 'default');
      const outcomes = await store.append(
        [message({ n: 0 }), message({ n: 1 }, { stream: 'other' }), message({ n: 2 }), message({ n: 3 })],
        {
          checkpoints: [
            // One name on two streams, two names on one stream, and one without a message.
            at('other 1', { stream: 'other', from: 1, to: 2 }),
            at('2 and 3', { from: 2, to: 4 }),
            at('second', { source: 'second', from: 0, to: 1 }),
            at('alone', { stream: 'third', from: 4, to: 4 }),
          ],
        },
      );
      assert.deepEqual(statuses(outcomes), Array(4).fill('stored'));
      assert.equal(await store.readCheckpoint('other', 'source'), 'other 1');
      assert.equal(await store.readCheckpoint(STREAM, 'source'), '2 and 3');
      assert.equal(await store.readCheckpoint(STREAM, 'second'), 'second');
      assert.equal(await store.readCheckpoint('third', 'source'), 'alone');
      assert.equal(await store.readCheckpoint('other', 'second'), undefined);
      assert.deepEqual(ns(await read(store)), [0, 2, 3]);
      assert.deepEqual(ns(await read(store, key('default', 'other'))), [1]);
    });

    it('stores a position if its own messages are stored or duplicates, whatever becomes of others', async () => {
      const { store } = context;
      await register(store, 'default');
      await storePosition(store, STREAM, 'bad', 'before');
      const tooLarge = 'x'.repeat(store.maxMessageBytes + 1);
      const outcomes = await store.append(
        [
          message({ n: 0 }, { dedupeId: 'seen' }),
          message(tooLarge),
          message({ n: 1 }),
          message({ n: 2 }, { dedupeId: 'seen' }),
          message(tooLarge, { stream: 'other' }),
        ],
        {
          checkpoints: [
            at('all', { source: 'all', from: 0, to: 5 }),
            at('bad', { source: 'bad', from: 1, to: 3 }),
            at('good', { source: 'good', from: 2, to: 4 }),
            at('worse', { source: 'good', stream: 'other', from: 4, to: 5 }),
          ],
        },
      );
      assert.deepEqual(statuses(outcomes), ['stored', 'failed', 'stored', 'duplicate', 'failed']);
      assert.equal(await store.readCheckpoint(STREAM, 'all'), undefined);
      assert.equal(await store.readCheckpoint(STREAM, 'bad'), 'before');
      assert.equal(await store.readCheckpoint(STREAM, 'good'), 'good');
      assert.equal(await store.readCheckpoint('other', 'good'), undefined);
    });

    it('reports no position that can not be stored where its messages are refused anyway', async () => {
      const { store } = context;
      await store.ensureStream(STREAM);
      const outcomes = await store.append([message('x'.repeat(store.maxMessageBytes + 1)), message({ n: 1 })], {
        checkpoints: [at({ 'a\0': 1 }, { source: 'bad', from: 0, to: 1 }), at('good', { from: 1, to: 2 })],
      });
      assert.deepEqual(statuses(outcomes), ['failed', 'stored']);
      assert.equal(await store.readCheckpoint(STREAM, 'bad'), undefined);
      assert.equal(await store.readCheckpoint(STREAM, 'source'), 'good');
    });

    it('keeps the last position of a source that can be stored', async () => {
      const { store } = context;
      await store.ensureStream(STREAM);
      const tooLarge = message('x'.repeat(store.maxMessageBytes + 1));
      await store.append([...numbers(3), tooLarge], {
        checkpoints: [at(1, { to: 1 }), at(2, { from: 1, to: 3 }), at(3, { from: 3, to: 4 })],
      });
      assert.equal(await store.readCheckpoint(STREAM, 'source'), 2);
    });
  });
}

/** Of the first message of a write unless a test says otherwise. */
function at(position: unknown, place: Partial<Checkpoint> = {}): Checkpoint {
  return { stream: STREAM, source: 'source', position, from: 0, to: 1, ...place };
}

function statuses(outcomes: readonly AppendOutcome[]): string[] {
  return outcomes.map(({ status }) => status);
}
