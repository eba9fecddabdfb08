import { expect } from 'vitest';
import {
  ALL,
  claimAndCommit,
  die,
  finish,
  finishWith,
  hold,
  key,
  message,
  numbers,
  openSeqs,
  progress,
  read,
  readAllKept,
  register,
  row,
  STREAM,
  valueOf,
  windowOf,
} from '../testing/store-contract/fixtures.js';
import type { StreamStore } from './stream-store.interface.js';

/** Kills what holds the data, as a power cut would, and brings it back. */
export type Crash = () => Promise<void>;

const messagesIn = async (store: StreamStore) => (await store.stats([STREAM]))[0]?.buffered;

/**
 * What a store has acknowledged is there after its server was killed: `it.each(DURABLE)`. A process outlives its server, and goes on from what
 * was acknowledged. Whatever is not written down by then would be lost without anybody noticing: a settled window, for one, that no later
 * commit point names.
 */
export const DURABLE: readonly (readonly [what: string, (store: StreamStore, crash: Crash) => Promise<void>])[] = [
  [
    'a group and its messages',
    async (store, crash) => {
      await register(store, 'default');
      await store.append(numbers(3));
      await crash();
      expect(await read(store)).toHaveLength(3);
    },
  ],
  [
    'messages with a dedupe id, and the position of a source',
    async (store, crash) => {
      await register(store, 'default');
      await store.append([message({}, { dedupeId: 'd' })]);
      await store.append([], { checkpoints: [{ stream: STREAM, source: 'source', position: 7, from: 0, to: 0 }] });
      await crash();
      expect(await store.append([message({}, { dedupeId: 'd' })])).toEqual([{ status: 'duplicate' }]);
      expect(await store.readCheckpoint(STREAM, 'source')).toBe(7);
    },
  ],
  [
    'a claim, and an attempt',
    async (store, crash) => {
      await register(store, 'default');
      await store.append(numbers(2));
      const lease = await hold(store);
      const window = windowOf(1, await read(store));
      await store.claim(lease, [window]);
      await store.reschedule(lease, { ...window, attempt: 2 });
      await crash();
      expect((await store.recover(lease)).open).toMatchObject([{ seq: 1, attempt: 2 }]);
    },
  ],
  [
    'a commit point',
    async (store, crash) => {
      await register(store, 'default');
      await store.append(numbers(2));
      const lease = await hold(store);
      await claimAndCommit(store, lease, 1, await read(store));
      await crash();
      expect((await store.recover(lease)).finished).toHaveLength(1);
    },
  ],
  [
    'what a commit has decided, before it is settled and after',
    async (store, crash) => {
      await register(store, 'default');
      await store.ensureStream('results');
      await store.registerGroup(key('default', 'results'));
      const lease = await hold(store);
      await store.claim(lease, [windowOf(1, [])]);
      const effects = new Map([
        [1, { put: [row('a', 1)], append: [message({}, { stream: 'results', dedupeId: 'd' })] }],
      ]);
      await store.commit(lease, { finished: [1], progress: progress(1), effects });
      await crash();
      const { finished, groups } = await store.recover(lease);
      const settled = finished.map((window) => ({ window, messages: [] }));
      await store.settle(lease, settled, { groups, keep: false });
      await crash();
      await store.recover(lease);
      expect(await store.readState!(key(), ['a'])).toHaveLength(1);
      expect(await read(store, key('default', 'results'))).toHaveLength(1);
    },
  ],
  ...(
    [
      ['a settled window', ['default'], {}, false],
      ['a settled window of messages with dedupe ids', ['default'], { dedupeId: 'd' }, false],
      ['a settled window that is kept', ['default'], {}, true],
      ['a settled window beside another group', ['default', 'other'], {}, false],
    ] as const
  ).map(
    ([name, groups, extra, keep]) =>
      [
        name,
        async (store: StreamStore, crash: Crash) => {
          await register(store, ...groups);
          await store.append([message({}, extra)]);
          for (const group of groups) {
            const lease = await hold(store, key(group), group);
            const messages = await read(store, key(group));
            const committed = await claimAndCommit(store, lease, 1, messages);
            await store.settle(lease, [{ window: committed.window, messages }], { groups: committed.groups, keep });
            await crash();
            // As the process does that goes on: its next commit point names what is not settled yet.
            await store.commit(lease, { finished: [], progress: progress(1, 1) });
            expect(await openSeqs(store, lease)).toEqual([]);
            expect(await store.fetch(key(group), undefined, ALL)).toMatchObject({ messages: [] });
          }
          expect(await messagesIn(store)).toBe(0);
          expect(await readAllKept(store)).toHaveLength(keep ? 1 : 0);
          if ('dedupeId' in extra) {
            expect(await store.append([message({}, extra)])).toEqual([{ status: 'duplicate' }]);
          }
        },
      ] as const,
  ),
  [
    'a dead letter, and its return',
    async (store, crash) => {
      await register(store, 'default');
      await store.append(numbers(1));
      const lease = await hold(store);
      await die(store, lease, 1, await read(store));
      await crash();
      expect(await store.deadLetters(STREAM, {}, undefined, 10)).toHaveLength(1);
      await store.redrive(STREAM, {});
      await crash();
      expect(await store.deadLetters(STREAM, {}, undefined, 10)).toEqual([]);
      expect(await read(store)).toHaveLength(1);
    },
  ],
  [
    'a lease',
    async (store, crash) => {
      await register(store, 'default');
      const lease = await hold(store);
      await finish(store, lease, 1, []);
      await crash();
      expect(await store.renewLeases([lease])).toEqual([]);
    },
  ],
  [
    'a pause, and that a group is gone',
    async (store, crash) => {
      await register(store, 'default', 'other');
      await store.updateStream(STREAM, { paused: true });
      await store.removeGroup(STREAM, 'other');
      await crash();
      expect(await store.describeStream(STREAM)).toMatchObject({ paused: true, groups: ['default'] });
    },
  ],
  [
    'a commit point that names what the one before named, and what was settled since',
    async (store, crash) => {
      await register(store, 'default');
      await store.append(numbers(3));
      const lease = await hold(store);
      const messages = await read(store);
      const windows = messages.map((each, index) => windowOf(index + 1, [each]));
      await store.claim(lease, windows);
      const groups = await store.commit(lease, { finished: [1, 2], progress: progress(2, 2) });
      // In a store that puts several windows into a record, one of them leaves it.
      const first = windows.slice(0, 1).map((window) => ({ window, messages: messages.slice(0, 1) }));
      await store.settle(lease, first, { groups, keep: false });
      await store.commit(lease, { finished: [2], progress: progress(2, 2) });
      await crash();
      const { finished, open } = await store.recover(lease);
      expect([finished.map(({ seq }) => seq), open.map(({ seq }) => seq)]).toEqual([[2], [3]]);
    },
  ],
  [
    'a commit point with rows and messages, and that they are not to be written once more',
    async (store, crash) => {
      await register(store, 'default');
      await store.registerGroup(key('default', 'results'));
      const lease = await hold(store);
      await finishWith(store, lease, 1, { put: [row('a', 1), row('b', 1, new Date(1))] });
      await crash();
      const window = windowOf(2, []);
      await store.claim(lease, [window]);
      const output = message({ n: 2 }, { stream: 'results', dedupeId: 'window:0' });
      const effects = new Map([[2, { put: [row('a', 2)], remove: ['b'], append: [output] }]]);
      const commit = { finished: [2], progress: progress(2), effects };
      await store.commit(lease, commit);
      await crash();
      expect((await store.recover(lease)).finished).toHaveLength(1);
      const groups = await store.commit(lease, commit);
      await crash();
      await store.settle(lease, [{ window, messages: [] }], { groups, keep: false });
      await crash();
      expect((await store.readState!(key(), ['a', 'b'])).map(valueOf)).toEqual([row('a', 2)]);
      expect(await read(store, key('default', 'results'))).toHaveLength(1);
    },
  ],
];
