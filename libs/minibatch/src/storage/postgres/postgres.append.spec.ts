import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openSchema, type TestSchema } from '../../../../../test/support/postgres-server.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { key, message, ns, numbers, read, register, STREAM } from '../../testing/store-contract/fixtures.js';
import type { AppendOutcome } from '../stream-store.interface.js';
import type { PostgresStreamStore } from './postgres.store.js';

const SOON = { timeout: 30_000, interval: 10 };

describe('append to PostgreSQL', () => {
  let schema: TestSchema;
  let store: PostgresStreamStore;
  let client: pg.Client;

  beforeEach(async () => {
    schema = openSchema();
    store = schema.store();
    await store.open();
    await register(store, 'default');
    client = new pg.Client({ connectionString: schema.url });
    client.on('error', () => undefined);
    await client.connect();
  });
  afterEach(async () => {
    await client.end();
    await store.close();
    await schema.dispose();
  });

  const statuses = (outcomes: readonly AppendOutcome[]) => outcomes.map(({ status }) => status);
  /** Backends of this schema's statements that wait for another transaction. */
  const waiting = async (): Promise<number[]> => {
    const rows = await schema.query<{ pid: number }>(
      `select pid from pg_stat_activity where wait_event_type = 'Lock' and query like '%${schema.schema}%'`,
    );
    return rows.map(({ pid }) => pid);
  };

  it('is not held up by a transaction that has used one of its dedupe ids', async () => {
    await client.query('begin');
    await store.append([message({ n: 'held' }, { dedupeId: '3' })], { session: client });
    const late = new Map<number, Promise<AppendOutcome>>();
    const position = { stream: STREAM, position: 1, from: 0, to: 2 };
    const outcomes = await store.append(
      [...numbers(8).map((each, n) => ({ ...each, dedupeId: String(n) })), message({ n: 8 }, { stream: 'other' })],
      {
        late: (index, outcome) => late.set(index, outcome),
        checkpoints: [
          { ...position, source: 'before' },
          { ...position, source: 'behind', from: 2, to: 8 },
        ],
      },
    );
    expect([...late.keys()]).toEqual([3]);
    expect(statuses(outcomes)).toEqual(outcomes.map((_, n) => (n === 3 ? 'failed' : 'stored')));
    expect(ns(await read(store))).toEqual([0, 1, 2, 4, 5, 6, 7]);
    expect(await store.readCheckpoint(STREAM, 'before')).toBe(1);
    expect(await store.readCheckpoint(STREAM, 'behind')).toBeUndefined();
    await client.query('rollback');
    expect(await late.get(3)).toMatchObject({ status: 'stored' });
    // Where it stands depends on how long its last try has waited.
    expect(ns(await read(store)).toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('says that a message may be stored if the connection breaks before the answer', async () => {
    await client.query('begin');
    await store.append([message({}, { dedupeId: 'x' })], { session: client });
    const appending = store.append([message({}, { dedupeId: 'x' })]);
    let isAnswered = false;
    void appending.then(() => (isAnswered = true));
    // It waits for a moment at a time: a backend may have gone on when it is ended.
    await vi.waitUntil(async () => {
      for (const pid of await waiting()) await schema.query('select pg_terminate_backend($1)', [pid]);
      return isAnswered;
    }, SOON);
    expect(await appending).toMatchObject([{ status: 'failed', storeAway: true, error: { stored: 'unknown' } }]);
    await client.query('rollback');
  });

  it('says that a message is not stored if the server was not reached', async () => {
    const away = schema.store({ patience: 0 });
    await away.open();
    const elsewhere = { connectionString: 'postgres://postgres@127.0.0.1:1/postgres' };
    const lost = new pg.Pool(elsewhere);
    Reflect.get(Reflect.get(away, 'opened') as object, 'database').pool = lost;
    expect(await away.append(numbers(2))).toMatchObject([
      { status: 'failed', storeAway: true, error: { stored: 'no', code: ErrorCode.AppendFailed } },
      { status: 'failed', storeAway: true, error: { stored: 'no' } },
    ]);
    await lost.end();
    await away.close();
  });

  it('makes a stream again that was dropped elsewhere', async () => {
    await store.append(numbers(1));
    const other = schema.store();
    await other.open();
    await other.dropStream(STREAM);
    const outcomes = await store.append(numbers(3), {
      checkpoints: [{ stream: STREAM, source: 's', position: 7, from: 0, to: 3 }],
    });
    expect(statuses(outcomes)).toEqual(['stored', 'stored', 'stored']);
    expect(ns(await read(other, key()))).toEqual([0, 1, 2]);
    expect(await other.readCheckpoint(STREAM, 's')).toBe(7);
    await other.close();
  });

  it('reads its own way what others have told the driver to read differently', async () => {
    const parsers = [20, 17, 701, 3802].map((oid) => [oid, pg.types.getTypeParser(oid)] as const);
    try {
      for (const [oid] of parsers) pg.types.setTypeParser(oid, () => 'spoiled');
      await store.append(numbers(2));
      expect(ns(await read(store))).toEqual([0, 1]);
      expect(await store.stats([STREAM])).toMatchObject([{ buffered: 2 }]);
    } finally {
      for (const [oid, parser] of parsers) pg.types.setTypeParser(oid, parser as (text: string) => unknown);
    }
  });

  it('takes more than one statement holds, in order', async () => {
    const outcomes = await store.append(numbers(5_500), {
      checkpoints: [{ stream: STREAM, source: 's', position: 1, from: 0, to: 5_500 }],
    });
    expect(outcomes.every(({ status }) => status === 'stored')).toBe(true);
    const ids = outcomes.map((outcome) => (outcome.status === 'stored' ? outcome.id : ''));
    expect(ids.toSorted()).toEqual(ids);
    expect(await store.readCheckpoint(STREAM, 's')).toBe(1);
  });
});
