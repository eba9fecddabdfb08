import assert from 'node:assert/strict';
import type { MessageId, TimeCursor, TimeRange } from '../../storage/stream-store.interface.js';
import type { ContractContext, TestFunctions } from './context.js';
import {
  ALL,
  append,
  bury,
  finish,
  hold,
  ids,
  key,
  message,
  NOON,
  ns,
  numbers,
  read,
  register,
  STREAM,
} from './fixtures.js';

export function readContract({ describe, it }: TestFunctions, context: ContractContext): void {
  describe('fetch', () => {
    it('reads on after an id, and says whether it ended at its limit', async () => {
      const { store } = context;
      await register(store, 'default');
      const all = await append(store, ...numbers(5));
      const limits = { ...ALL, messages: 2 };
      const first = await store.fetch(key(), undefined, limits);
      assert.deepEqual(ids(first.messages), all.slice(0, 2));
      assert.equal(first.full, true);
      const second = await store.fetch(key(), all[1], limits);
      assert.deepEqual(ids(second.messages), all.slice(2, 4));
      assert.equal(second.full, true);
      const third = await store.fetch(key(), all[3], limits);
      assert.deepEqual(ids(third.messages), all.slice(4));
      assert.equal(third.full, false);
      assert.deepEqual(await store.fetch(key(), all[4], limits), { messages: [], full: false });
    });

    it('ends with the message that reaches the bound in bytes', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(10).map((each) => ({ ...each, data: { text: 'x'.repeat(1000) } })));
      const one = await store.fetch(key(), undefined, { messages: 10, bytes: 1 });
      assert.equal(one.messages.length, 1);
      assert.equal(one.full, true);
      const some = await store.fetch(key(), undefined, { messages: 10, bytes: 2500 });
      assert.ok(some.messages.length >= 2 && some.messages.length <= 4, `${some.messages.length} messages`);
      assert.equal(some.full, true);
      const all = await store.fetch(key(), undefined, { messages: 11, bytes: 1_000_000 });
      assert.equal(all.messages.length, 10);
      assert.equal(all.full, false);
    });

    it('shows claimed messages, and not what the group has committed', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(4));
      const lease = await hold(store);
      const messages = await read(store);
      await finish(store, lease, 1, [messages[1]!]);
      await store.claim(lease, [
        { seq: 2, id: 'w', messageIds: [messages[2]!.id], created: new Date(NOON), attempt: 1, recoveries: 0 },
      ]);
      assert.deepEqual(ns(await read(store)), [0, 2, 3]);
    });

    it('finds nothing on a stream that is not there', async () => {
      const { store } = context;
      const nowhere = key('default', 'missing');
      assert.deepEqual(await store.fetch(nowhere, undefined, ALL), { messages: [], full: false });
      assert.deepEqual(await store.fetchByTime(nowhere, {}, undefined, ALL), { messages: [], full: false });
      assert.deepEqual(await store.scan(nowhere, undefined, undefined, 10), []);
      assert.deepEqual(await store.load(nowhere, []), []);
    });

    it('shows nothing below what was read, where it says that ids are in a total order', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      const lease = await hold(store);
      const [dead] = await append(store, message({ n: -1 }));
      const [letter] = await read(store);
      await finish(store, lease, 1, [letter!]);
      await bury(store, lease, [letter!]);

      const seen: MessageId[] = [];
      const readOn = async () => {
        const block = await store.fetch(key(), store.totalOrder ? seen.at(-1) : undefined, ALL);
        seen.push(...ids(block.messages).filter((id) => !seen.includes(id)));
      };
      const appends: Promise<MessageId[]>[] = [];
      for (let n = 0; n < 60; n += 1) {
        appends.push(append(n % 2 === 0 ? store : other, message({ n })));
        if (n === 30) appends.push(other.redrive(STREAM, {}).then(() => []));
        if (n % 3 === 0) await readOn();
      }
      const appended = (await Promise.all(appends)).flat();
      await readOn();
      const redriven = seen.filter((id) => !appended.includes(id));
      assert.equal(redriven.length, 1);
      assert.notDeepEqual(redriven, [dead]);
      assert.deepEqual([...appended, ...redriven].sort(), seen.toSorted());
    });

    it('sees at once what another process appended', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      for (let n = 0; n < 5; n += 1) {
        await append(other, message({ n }));
        assert.equal((await read(store)).length, n + 1);
      }
    });

    it('passes over what the group has committed while another group holds it', async () => {
      const { store } = context;
      await register(store, 'fast', 'slow');
      const all = await append(store, ...numbers(30));
      const lease = await hold(store, key('fast'));
      const messages = await read(store, key('fast'));
      // Out of order, as several workers finish.
      await finish(store, lease, 1, messages.slice(20, 25));
      await finish(store, lease, 2, messages.slice(0, 10));
      const left = [...all.slice(10, 20), ...all.slice(25)];
      assert.deepEqual(ids(await read(store, key('fast'))), left);
      assert.deepEqual(await store.scan(key('fast'), undefined, undefined, 100), left);
      assert.deepEqual(
        ids((await store.fetch(key('fast'), all[4], { ...ALL, messages: 3 })).messages),
        left.slice(0, 3),
      );
      assert.deepEqual(ids(await store.load(key('fast'), [all[0]!, all[12]!, all[22]!])), [all[12]]);
      assert.deepEqual(ids(await read(store, key('slow'))), all);
    });
  });

  describe('scan', () => {
    it('gives ids from after one up to and including another', async () => {
      const { store } = context;
      await register(store, 'default');
      const all = await append(store, ...numbers(10));
      assert.deepEqual(await store.scan(key(), undefined, undefined, 100), all);
      assert.deepEqual(await store.scan(key(), undefined, undefined, 3), all.slice(0, 3));
      assert.deepEqual(await store.scan(key(), all[2], all[5], 100), all.slice(3, 6));
      assert.deepEqual(await store.scan(key(), all[2], all[5], 2), all.slice(3, 5));
      assert.deepEqual(await store.scan(key(), undefined, all[0], 100), all.slice(0, 1));
      assert.deepEqual(await store.scan(key(), all[9], undefined, 100), []);
    });
  });

  describe('load', () => {
    it('gives the messages in the order of the ids, without those that are gone', async () => {
      const { store } = context;
      await register(store, 'default');
      const all = await append(store, ...numbers(6));
      const lease = await hold(store);
      await finish(store, lease, 1, (await read(store)).slice(2, 4));
      const loaded = await store.load(key(), [all[5]!, all[2]!, all[0]!, all[3]!, all[4]!]);
      assert.deepEqual(ids(loaded), [all[5], all[0], all[4]]);
      assert.deepEqual(ns(loaded), [5, 0, 4]);
    });
  });

  describe('fetchByTime', () => {
    const at = (ms: number) => new Date(NOON + ms);
    /** Created at these times, appended in this order. */
    const CREATED = [50, 10, 30, 30, 30, 20, 90];

    const setUp = async () => {
      const { store } = context;
      await store.ensureStream(STREAM);
      await store.registerGroup(key(), { timeOrder: true });
      await append(store, ...CREATED.map((ms, n) => message({ n }, { created: at(ms) })));
      return store;
    };

    const readAll = async (range: TimeRange, messages = 100) => {
      const found: unknown[] = [];
      let cursor: TimeCursor | undefined;
      // As many reads as there are messages, and one that comes back empty: more is a cursor that does not move.
      for (let reads = 0; reads <= CREATED.length; reads += 1) {
        const block = await context.store.fetchByTime(key(), range, cursor, { ...ALL, messages });
        found.push(...ns(block.messages));
        const last = block.messages.at(-1);
        if (!block.full || last === undefined) return found;
        cursor = { created: last.created, id: last.id };
      }
      return assert.fail(
        `fetchByTime does not get past ${CREATED.length} messages in ${CREATED.length + 1} reads: ` +
          `the one after ${JSON.stringify(cursor)} has to begin behind that message; read so far: ${String(found)}`,
      );
    };

    it('reads in order of created, then id', async () => {
      await setUp();
      assert.deepEqual(await readAll({}), [1, 5, 2, 3, 4, 0, 6]);
    });

    it('takes half-open ranges', async () => {
      await setUp();
      assert.deepEqual(await readAll({ from: at(20), to: at(50) }), [5, 2, 3, 4]);
      assert.deepEqual(await readAll({ from: at(30) }), [2, 3, 4, 0, 6]);
      assert.deepEqual(await readAll({ to: at(30) }), [1, 5]);
      assert.deepEqual(await readAll({ from: at(30), to: at(30) }), []);
    });

    it('resumes after a cursor among messages of the same time', async () => {
      await setUp();
      for (const step of [1, 2, 3]) {
        assert.deepEqual(await readAll({}, step), [1, 5, 2, 3, 4, 0, 6]);
        assert.deepEqual(await readAll({ from: at(20), to: at(51) }, step), [5, 2, 3, 4, 0]);
      }
    });

    it('ends at its limits', async () => {
      const store = await setUp();
      const one = await store.fetchByTime(key(), {}, undefined, { messages: 10, bytes: 1 });
      assert.equal(one.messages.length, 1);
      assert.equal(one.full, true);
      assert.equal((await store.fetchByTime(key(), {}, undefined, ALL)).full, false);
    });

    it('leaves out what the group has committed', async () => {
      const store = await setUp();
      const lease = await hold(store);
      const { messages } = await store.fetchByTime(key(), { to: at(30) }, undefined, ALL);
      await finish(store, lease, 1, messages);
      assert.deepEqual(await readAll({}), [2, 3, 4, 0, 6]);
    });

    it('finds messages that were appended before the group registered, and without its wish for time order', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      await append(store, message({ n: 0 }, { created: at(20) }), message({ n: 1 }, { created: at(10) }));
      assert.deepEqual(await readAll({}), [1, 0]);
      await other.registerGroup(key('timed'), { timeOrder: true });
      await append(store, message({ n: 2 }, { created: at(15) }));
      assert.deepEqual(await readAll({}), [1, 2, 0]);
      const timed = await other.fetchByTime(key('timed'), {}, undefined, ALL);
      assert.deepEqual(ns(timed.messages), [1, 2, 0]);
    });

    it('orders times before 1970 too', async () => {
      const { store } = context;
      await store.ensureStream(STREAM);
      await store.registerGroup(key(), { timeOrder: true });
      const times = [1, -1, 0, -1e12, 1e12];
      await append(store, ...times.map((ms, n) => message({ n }, { created: new Date(ms) })));
      assert.deepEqual(await readAll({}), [3, 1, 2, 0, 4]);
      assert.deepEqual(await readAll({ from: new Date(-1), to: new Date(1) }), [1, 2]);
    });
  });
}
