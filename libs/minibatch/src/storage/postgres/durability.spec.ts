import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPostgres } from '../../../../../scripts/servers/postgres/postgres.mjs';
import { openSchema } from '../../../../../test/support/postgres-server.js';
import {
  ALL,
  claimAndCommit,
  die,
  finish,
  hold,
  key,
  message,
  numbers,
  openSeqs,
  progress,
  read,
  readAllKept,
  register,
  STREAM,
  windowOf,
} from '../../testing/store-contract/fixtures.js';
import type { PostgresStreamStore } from './postgres.store.js';

type Crash = () => Promise<void>;

/**
 * A process outlives its server, and goes on from what the server has acknowledged. Whatever it has not written down by then would be
 * lost without anybody noticing: a settled window, for one, that no later commit point names.
 */
describe('what PostgreSQL has acknowledged is there after the server was killed', () => {
  let server: Awaited<ReturnType<typeof startPostgres>>;
  // What a statement does not write to the disk itself stays in memory for longer than the test takes.
  beforeAll(async () => void (server = await startPostgres({ settings: ['wal_writer_delay=10s'] })));
  afterAll(() => server?.stop());

  const messagesIn = async (store: PostgresStreamStore) => (await store.stats([STREAM]))[0]?.buffered;

  const cases: readonly (readonly [string, (store: PostgresStreamStore, crash: Crash) => Promise<void>])[] = [
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
          async (store: PostgresStreamStore, crash: Crash) => {
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
  ];

  it.each(cases)('%s', { timeout: 60_000 }, async (_, run) => {
    const schema = openSchema(server.url);
    const store = schema.store();
    try {
      await store.open();
      await run(store, async () => {
        await server.kill9();
        await server.restart();
      });
    } finally {
      // Its schema goes with the server.
      await store.close();
    }
  });
});
