import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openSchema, type TestSchema } from '../../../../../test/support/postgres-server.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { finish, hold, message, ns, numbers, read, register, STREAM } from '../../testing/store-contract/fixtures.js';
import type { AppendOutcome } from '../stream-store.interface.js';
import type { PostgresStreamStore } from './postgres.store.js';

const SOON = { timeout: 30_000, interval: 10 };

describe('the connections of the PostgreSQL store', () => {
  let schema: TestSchema;
  let client: pg.Client;
  let store: PostgresStreamStore | undefined;

  beforeEach(async () => {
    schema = openSchema();
    client = new pg.Client({ connectionString: schema.url });
    await client.connect();
  });
  afterEach(async () => {
    await client.end();
    await store?.close();
    store = undefined;
    await schema.dispose();
  });

  const open = async (
    connection: Readonly<Record<string, unknown>>,
    more: object = {},
  ): Promise<PostgresStreamStore> => {
    store = schema.store({ connection, ...more });
    await store.open();
    await register(store, 'default');
    return store;
  };
  const HELD = 12;
  /** Appends whose dedupe ids are in use by a transaction that is open on `client`. */
  const appendHeld = async (to: PostgresStreamStore): Promise<readonly Promise<AppendOutcome>[]> => {
    const messages = Array.from({ length: HELD }, (_, n) => message({ n }, { dedupeId: `held ${n}` }));
    await client.query('begin');
    await to.append(messages, { session: client });
    const late: Promise<AppendOutcome>[] = [];
    for (const each of messages) await to.append([each], { late: (_, outcome) => late.push(outcome) });
    expect(late).toHaveLength(HELD);
    return late;
  };

  describe.each([2, 3, 10])('%i of them', (max) => {
    it('are free for other calls while appends wait for the transaction of somebody else', async () => {
      const to = await open({ max });
      const late = await appendHeld(to);
      await to.append(numbers(3));
      const lease = await hold(to);
      const messages = await read(to);
      expect(ns(messages)).toEqual([0, 1, 2]);
      await finish(to, lease, 1, messages);
      await client.query('commit');
      expect(await Promise.all(late)).toEqual(late.map(() => ({ status: 'duplicate' })));
    });

    it('store what has waited when the other transaction is rolled back', async () => {
      const to = await open({ max });
      const late = await appendHeld(to);
      // A call that does not take late answers waits itself.
      const waiting = to.append([message({ n: 99 }, { dedupeId: 'held 0' })]);
      await client.query('rollback');
      expect((await Promise.all(late)).map(({ status }) => status).toSorted()).toContain('stored');
      const [own] = await waiting;
      expect([own?.status, (await late[0])?.status].toSorted()).toEqual(['duplicate', 'stored']);
      expect(await read(to)).toHaveLength(HELD);
    });

    it('end when the store closes although appends wait', async () => {
      const to = await open({ max });
      const late = await appendHeld(to);
      await to.close();
      for (const outcome of await Promise.all(late)) {
        expect(outcome).toMatchObject({ status: 'failed', error: { code: ErrorCode.AppendFailed, stored: 'no' } });
      }
      await client.query('rollback');
    });

    it('are enough to listen for messages and to consume them', async () => {
      const to = await open({ max });
      const end = new AbortController();
      let heard = () => undefined as void;
      const started = new Promise<void>((resolve) => (heard = resolve));
      const watching = to.watch(
        [STREAM],
        { wake: () => undefined, started: heard, failed: expect.unreachable },
        end.signal,
      );
      await started;
      const late = await appendHeld(to);
      await Promise.all([
        to.append(numbers(3)),
        to.stats([STREAM]),
        to.registerGroup({ stream: STREAM, group: 'other' }),
        to.replay(STREAM, 'default', {}),
      ]);
      await finish(to, await hold(to), 1, await read(to), { groups: ['default'] });
      end.abort();
      await watching;
      await client.query('commit');
      await Promise.all(late);
    });
  });

  it('have to be two or more if one of them listens', async () => {
    const refused = { code: ErrorCode.InvalidOptions, message: expect.stringMatching(/max.*notify: false/s) as string };
    await expect(open({ max: 1 })).rejects.toMatchObject(refused);
    const pool = new pg.Pool({ connectionString: schema.url, max: 1 });
    await expect(schema.store({ pool }).open()).rejects.toMatchObject(refused);
    await pool.end();
    const to = await open({ max: 1 }, { notify: false });
    const late = await appendHeld(to);
    await to.append(numbers(3));
    expect(ns(await read(to))).toEqual([0, 1, 2]);
    await client.query('commit');
    expect(await Promise.all(late)).toEqual(late.map(() => ({ status: 'duplicate' })));
  });

  it('that the application does not give back are not waited for without end', async () => {
    const pool = new pg.Pool({ connectionString: schema.url, max: 2 });
    const to = schema.store({ pool, patience: 1_000 });
    await to.open();
    const taken = [await pool.connect(), await pool.connect()];
    await expect(to.describeStream(STREAM)).rejects.toMatchObject({
      code: ErrorCode.StoreUnavailable,
      message: expect.stringMatching(/all 2 connections of the pool/) as string,
      details: { outOfReach: true },
    });
    expect(await to.append(numbers(1))).toMatchObject([{ status: 'failed', storeAway: true, error: { stored: 'no' } }]);
    for (const each of taken) each.release();
    expect(await to.describeStream(STREAM)).toBeUndefined();
    // What came too late has gone back to the pool.
    await vi.waitUntil(() => pool.idleCount === pool.totalCount, SOON);
    await to.close();
    await pool.end();
  });

  // Node fires a timer of more than 24.8 days at once.
  it('are opened with any patience', async () => {
    const warnings: string[] = [];
    const warn = ({ name }: Error) => void warnings.push(name);
    process.on('warning', warn);
    try {
      const to = await open({}, { patience: '25 days' });
      expect(await to.append(numbers(1))).toMatchObject([{ status: 'stored' }]);
      await new Promise(setImmediate);
      expect(warnings).not.toContain('TimeoutOverflowWarning');
    } finally {
      process.off('warning', warn);
    }
  });
});
