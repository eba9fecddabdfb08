import assert from 'node:assert/strict';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { type LeaseState, NO_PROGRESS } from '../../storage/stream-store.interface.js';
import type { ContractContext, TestFunctions } from './context.js';
import {
  append,
  bury,
  finish,
  hold,
  HOSTILE_NAMES,
  key,
  message,
  NOON,
  numbers,
  owner,
  read,
  register,
  rejectsWith,
  storePosition,
  STREAM,
  windowOf,
} from './fixtures.js';

export function streamsContract({ describe, it }: TestFunctions, context: ContractContext): void {
  describe('streams', () => {
    it('opens and closes more than once', async () => {
      const store = await context.another();
      await store.open();
      await store.ensureStream(STREAM);
      await store.close();
      await store.close();
      await store.open();
      assert.equal((await store.describeStream(STREAM))?.name, STREAM);
    });

    it('makes a stream that is not there, once', async () => {
      const { store } = context;
      assert.equal(await store.describeStream(STREAM), undefined);
      const made = await store.ensureStream(STREAM);
      assert.equal(made.name, STREAM);
      assert.equal(made.status, 'open');
      assert.equal(made.paused, false);
      assert.equal(made.flushes, 0);
      assert.deepEqual(made.groups, []);
      assert.ok(made.created instanceof Date);
      assert.equal(made.closed, undefined);
      assert.deepEqual(await store.ensureStream(STREAM), made);
      assert.deepEqual(await store.describeStream(STREAM), made);
    });

    it('makes a stream once for two processes at a time', async () => {
      const { store } = context;
      const other = await context.another();
      const made = await Promise.all([store, other, store, other].map((each) => each.ensureStream(STREAM)));
      assert.equal(new Set(made.map(({ created }) => created.getTime())).size, 1);
      assert.equal((await other.listStreams()).length, 1);
    });

    it('lists streams by name, all or those that exist', async () => {
      const { store } = context;
      for (const name of ['b', 'a', 'c']) await store.ensureStream(name);
      const names = async (wanted?: readonly string[]) => (await store.listStreams(wanted)).map(({ name }) => name);
      assert.deepEqual(await names(), ['a', 'b', 'c']);
      assert.deepEqual(await names(['c', 'missing', 'a']), ['a', 'c']);
      assert.deepEqual(await names([]), []);
    });

    it('pauses, flushes and closes for all processes, and changes only what is given', async () => {
      const { store } = context;
      const other = await context.another();
      await store.ensureStream(STREAM);
      assert.equal((await store.updateStream(STREAM, { paused: true })).paused, true);
      const flushed = await store.updateStream(STREAM, { flush: true });
      assert.equal(flushed.flushes, 1);
      assert.equal(flushed.paused, true);
      assert.equal((await other.updateStream(STREAM, { flush: true })).flushes, 2);
      assert.equal((await other.updateStream(STREAM, { paused: false })).paused, false);
      const closed = await store.updateStream(STREAM, { status: 'closed' });
      assert.equal(closed.status, 'closed');
      assert.ok(closed.closed instanceof Date);
      assert.deepEqual(await other.describeStream(STREAM), closed);
      assert.equal((await other.ensureStream(STREAM)).status, 'closed', 'ensureStream does not open a closed stream');
      assert.equal((await other.updateStream(STREAM, { status: 'open' })).status, 'open');
    });

    it('passes on what operators want of open windows, each once, until it is answered', async () => {
      const { store } = context;
      const other = await context.another();
      await store.ensureStream(STREAM);
      const wanted = (window: string) => ({ group: 'g', window, action: 'giveUp' as const });
      assert.equal((await store.describeStream(STREAM))?.requests, undefined);
      await store.updateStream(STREAM, { request: wanted('a') });
      await other.updateStream(STREAM, { request: wanted('b') });
      await store.updateStream(STREAM, { request: wanted('a') });
      const names = async () => {
        const { requests = [] } = (await other.describeStream(STREAM)) ?? {};
        for (const { group, action } of requests) assert.deepEqual([group, action], ['g', 'giveUp']);
        return requests.map(({ window }) => window).sort();
      };
      assert.deepEqual(await names(), ['a', 'b']);
      await other.updateStream(STREAM, { answered: wanted('a') });
      await other.updateStream(STREAM, { answered: wanted('missing') });
      assert.deepEqual(await names(), ['b']);
      const skipped = ['Mail', 'Ledger'].map((sink) => ({ ...wanted('b'), action: 'skip' as const, sink }));
      for (const request of skipped) await other.updateStream(STREAM, { request });
      assert.deepEqual((await store.describeStream(STREAM))?.requests, [wanted('b'), ...skipped]);
      for (const answered of skipped) await store.updateStream(STREAM, { answered });
      assert.deepEqual(await names(), ['b']);
      await store.updateStream(STREAM, { answered: wanted('b') });
      assert.equal((await store.listStreams([STREAM]))[0]?.requests, undefined);
    });

    it('refuses to change a stream that is not there', async () => {
      await rejectsWith(ErrorCode.UnknownStream, context.store.updateStream('missing', { paused: true }));
    });

    it('drops a stream with all that hangs on it, and nothing else', async () => {
      const { store } = context;
      await store.ensureStream(STREAM);
      await store.registerGroup(key());
      await store.registerGroup(key('default', 'other'));
      await append(store, ...numbers(5), message({ n: 9 }, { dedupeId: 'x' }), message({}, { stream: 'other' }));
      await storePosition(store, STREAM, 'source', { offset: 1 });
      await storePosition(store, 'other', 'source', { offset: 2 });
      const lease = await hold(store);
      await finish(store, lease, 1, (await read(store)).slice(0, 2));

      await store.dropStream(STREAM);
      await store.dropStream(STREAM);
      assert.equal(await store.describeStream(STREAM), undefined);
      assert.deepEqual(await read(store), []);
      assert.equal(await store.readCheckpoint(STREAM, 'source'), undefined);
      assert.equal((await read(store, key('default', 'other'))).length, 1);
      assert.deepEqual(await store.readCheckpoint('other', 'source'), { offset: 2 });

      // Made again it is new: no dedupe, no progress, no lease of the one before.
      await store.ensureStream(STREAM);
      await store.registerGroup(key());
      const [outcome] = await store.append([message({ n: 1 }, { dedupeId: 'x' })]);
      assert.equal(outcome?.status, 'stored');
      const [state] = await store.readLeases([key()]);
      assert.equal(state?.owner, undefined);
      assert.equal((await store.recover(await hold(store, key(), 'b'))).progress.lastSeq, 0);
    });

    it('drops a stream with its open and kept windows, kept messages and dead letters', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(4));
      const lease = await hold(store);
      const messages = await read(store);
      await finish(store, lease, 1, messages.slice(0, 2), { keep: true, at: new Date(NOON) });
      await store.claim(lease, [windowOf(2, messages.slice(2))]);
      await bury(store, lease, messages.slice(2, 3));
      assert.equal((await store.deadLetters(STREAM, {}, undefined, 10)).length, 1);

      await store.dropStream(STREAM);
      await register(store, 'default');
      assert.deepEqual(await store.deadLetters(STREAM, {}, undefined, 10), []);
      assert.equal(await store.redrive(STREAM, {}), 0);
      assert.equal(await store.findWindow(key(), 'window-2'), undefined);
      assert.deepEqual((await store.recover(await hold(store, key(), 'b'))).open, []);
      assert.deepEqual(await store.sweep(STREAM, { kept: new Date(NOON + 60_000) }), {
        tombstones: 0,
        messages: 0,
        windows: 0,
      });
    });

    it('says that a consumer has gone with its stream, until it registers again', async () => {
      const { store } = context;
      await register(store, 'default', 'other');
      const held = await hold(store, key());
      const missing = async () =>
        (await store.readLeases([key(), key('other')])).map((state) => state.missing ?? false);
      assert.deepEqual(await missing(), [false, false]);

      await store.dropStream(STREAM);
      assert.deepEqual(await missing(), [true, true]);
      assert.deepEqual(await store.renewLeases([held]), [held]);
      await assert.rejects(store.commit(held, { finished: [], progress: NO_PROGRESS }), {
        code: ErrorCode.LeaseLost,
      });
      await store.releaseLease(held);
      assert.deepEqual(await missing(), [true, true], 'nothing brings it back but its registration');

      // Somebody appends: the stream is there again, its groups are not, and nothing would be held for them.
      await store.ensureStream(STREAM);
      await store.append([message(1)]);
      assert.deepEqual(await missing(), [true, true], 'the stream alone brings it back');
      const [state] = await store.readLeases([key()]);
      assert.equal(await store.acquireLease(key(), owner('later'), state as LeaseState), undefined);
      assert.deepEqual((await store.stats([STREAM]))[0]?.groups, []);
      assert.deepEqual(await missing(), [true, true]);

      await register(store, 'default', 'other');
      assert.deepEqual(await missing(), [false, false]);
      await store.removeGroup(STREAM, 'other');
      assert.deepEqual(await missing(), [false, false], 'a group that was removed is not to register again');
    });

    it('gives ids that a dropped stream of the same name has not given', async () => {
      const { store } = context;
      await store.ensureStream(STREAM);
      const before = await append(store, ...numbers(3));
      await store.dropStream(STREAM);
      await store.ensureStream(STREAM);
      const after = await append(store, ...numbers(3));
      assert.equal(new Set([...before, ...after]).size, 6);
    });

    it('takes any name', async () => {
      const { store } = context;
      for (const name of HOSTILE_NAMES) {
        const consumer = key(name, name);
        await store.ensureStream(name);
        await store.registerGroup(consumer);
        await append(store, message({ name }, { stream: name, dedupeId: name, key: name }));
        await storePosition(store, name, name, { name });
      }
      assert.deepEqual((await store.listStreams()).map(({ name }) => name).sort(), [...HOSTILE_NAMES].sort());
      for (const name of HOSTILE_NAMES) {
        const consumer = key(name, name);
        const messages = await read(store, consumer);
        assert.deepEqual(
          messages.map(({ data }) => data),
          [{ name }],
        );
        assert.equal(messages[0]?.key, name);
        assert.deepEqual((await store.describeStream(name))?.groups, [name]);
        assert.deepEqual(await store.readCheckpoint(name, name), { name });
        await finish(store, await hold(store, consumer), 1, messages);
        assert.deepEqual(await read(store, consumer), []);
        const [again] = await store.append([message({ name }, { stream: name, dedupeId: name })]);
        assert.equal(again?.status, 'duplicate');
        const [stats] = await store.stats([name]);
        assert.equal(stats?.consumers[0]?.group, name);
      }
    });
  });
}
