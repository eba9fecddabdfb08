import assert from 'node:assert/strict';
import { BSONRegExp, Double, Int32, Long } from 'bson';
import { ContentMessage, contentOf } from '../../storage/content-message.js';
import type { StoredMessage } from '../../storage/stream-store.interface.js';
import { type ContractContext, onlyWithState, type TestFunctions } from './context.js';
import {
  append,
  finish,
  hold,
  key,
  letterOf,
  message,
  NOON,
  ns,
  numbers,
  progress,
  read,
  register,
  STREAM,
  windowOf,
} from './fixtures.js';

export function rowWindowsContract(test: TestFunctions, context: ContractContext): void {
  const { describe, it } = onlyWithState(test, context);
  describe('windows of rows', () => {
    it('makes dead letters of messages that have left the buffer, of the bytes that they had there', async () => {
      const { store } = context;
      await register(store, 'default');
      const values = [
        { n: 1, big: 2n },
        { $ref: 'y', $id: 1, type: 'object' },
        new Map<string, unknown>([
          ['10', new Double(2)],
          ['9', Long.fromString('9007199254740993')],
          ['int', new Int32(2)],
        ]),
        { pattern: new BSONRegExp('(?P<name>x)') },
        null,
      ];
      const created = new Date(NOON - 5);
      const extra = { key: 'k', headers: { h: 'v ✈' }, created };
      await append(
        store,
        ...values.map((data, n) => message(data, n === 0 ? { ...extra, dedupeId: 'x' } : { created })),
      );
      const lease = await hold(store);
      const before = await read(store);
      const inRows = before.map((each) => new ContentMessage(each.id, each.created, each.bytes, contentOf(each)));
      await finish(store, lease, 1, before);
      assert.deepEqual(await read(store), []);
      await store.bury(
        lease,
        inRows.map((each) => letterOf(each)),
      );
      // A repeated call changes nothing.
      await store.bury(
        lease,
        inRows.map((each) => letterOf(each)),
      );
      const letters = await store.deadLetters(STREAM, {}, undefined, 100);
      const content = ({ data, key: of, headers, created: at }: Omit<StoredMessage, 'id' | 'bytes' | 'read'>) => ({
        ...{ data, key: of, headers, created: at },
      });
      assert.deepEqual(
        letters.map(content),
        before.map((each) => content(each.read() as never)),
      );
      assert.deepEqual(
        letters.map(({ messageId }) => messageId),
        before.map(({ id }) => id),
      );
      assert.equal(await store.redrive(STREAM, {}), values.length);
      assert.deepEqual(
        (await read(store)).map((each) => content(each.read() as never)),
        before.map((each) => content(each.read() as never)),
      );
    });

    it('leaves the buffer alone when it settles them', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'a', 'b');
      await append(store, ...numbers(3));
      const lease = await hold(store, key('a'));
      const messages = await read(store, key('a'));
      await finish(store, lease, 1, messages.slice(0, 2));
      const window = windowOf(2, messages, { slots: ['f/0'], key: 'k' });
      await store.claim(lease, [window]);
      const groups = await store.commit(lease, { finished: [2], progress: progress(2) });
      await store.settle(lease, [{ window, messages: [] }], { groups, keep: false });
      assert.deepEqual(ns(await read(other, key('a'))), [2]);
      assert.deepEqual(ns(await read(other, key('b'))), [0, 1, 2]);
      const recovery = await store.recover(lease);
      assert.deepEqual([recovery.open, recovery.finished], [[], []]);
    });
  });
}
