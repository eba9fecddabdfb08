import 'reflect-metadata';
import { setTimeout as work } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import type { TestingModule } from '@nestjs/testing';
import {
  AppendError,
  ErrorCode,
  MinibatchError,
  MinibatchModule,
  type Sink,
  StatusService,
  Streaming,
  StreamService,
  type StreamStore,
  type Window,
} from 'nestjs-minibatch';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { startMongo, type MongoServer } from '../../scripts/servers/mongo/mongo.mjs';
import { openDatabase, type TestDatabase } from '../support/mongo-server.js';
import { closeAll, Log, mongoose, SOON, start } from './support/applications.js';

// An error that nobody handles fails the run: Vitest sees to that.

/** A short one, so that what waits for the server is seen to fail. Milliseconds. */
const SELECTION = { serverSelectionTimeoutMS: 300 } as const;

interface Row {
  readonly row: number;
}

@Injectable()
class Results implements Sink<readonly number[]> {
  readonly puts: { readonly window: string; readonly rows: readonly number[] }[] = [];
  put(rows: readonly number[], window: Window): void {
    this.puts.push({ window: window.id, rows });
  }
  get rows(): number {
    return this.puts.reduce((sum, { rows }) => sum + rows.length, 0);
  }
}

@Injectable()
class Rows {
  readonly started: string[] = [];

  @Streaming<Row, typeof Results>('rows', { size: 40, interval: '1s', workers: 2, sink: Results })
  async handle(window: Window<Row>): Promise<readonly number[]> {
    this.started.push(window.id);
    await work(4);
    return window.data.map(({ row }) => row);
  }
}

const providers = [Rows, Results];
let server: MongoServer;
let database: TestDatabase;

beforeAll(async () => {
  server = await startMongo({ durable: true });
});
afterAll(() => server.stop());
beforeEach(() => {
  // Goes with the server.
  database = openDatabase(server.uri);
});
afterEach(closeAll);

const streamsOf = (app: TestingModule) => app.get(StreamService, { strict: false });
const statusOf = async (app: TestingModule) => app.get(StatusService, { strict: false }).snapshot();

/** A message goes its whole way. */
async function works(app: TestingModule): Promise<void> {
  const results = app.get(Results);
  const before = results.rows;
  await streamsOf(app).append('rows', { row: 1 });
  await streamsOf(app).stream('rows').flush();
  await vi.waitUntil(() => results.rows > before, SOON);
}

describe('a server that is not there at boot', () => {
  // Wherever the test before has left it.
  beforeEach(() => server.kill9());

  it('is waited for by Mongoose, before our first hook', async () => {
    // Not the short one: once connected, a busy machine needs more for a call that is to go through.
    const connection = mongoose(database, { serverSelectionTimeoutMS: 10_000, retryAttempts: 1000, retryDelay: 50 });
    const log = new Log();
    const booting = start({ imports: [connection, MinibatchModule.forRoot()], providers }, log);
    await server.restart();
    await works(await booting);
    // Ours, once begun, finds it at the first attempt.
    expect(log.lines.filter((line) => line.includes('retrying'))).toEqual([]);
  });

  it('stops the boot by Mongoose’s own error when its patience is over', async () => {
    const connection = mongoose(database, { ...SELECTION, retryAttempts: 1, retryDelay: 10 });
    const imports = [connection, MinibatchModule.forRoot()];
    await expect(start({ imports, providers })).rejects.toThrow(/ECONNREFUSED|Server selection timed out/);
  });

  it('with lazyConnection, is found by the wait of Mongoose’s first try', async () => {
    const imports = [mongoose(database, { lazyConnection: true }), MinibatchModule.forRoot()];
    const booting = start({ imports, providers });
    await server.restart();
    await works(await booting);
  });

  it('with lazyConnection, is tried for after Mongoose gave up, until it comes', async () => {
    const log = new Log();
    const imports = [mongoose(database, { ...SELECTION, lazyConnection: true }), MinibatchModule.forRoot()];
    const app = await start({ imports, providers }, log);
    expect(log.lines).toEqual(
      expect.arrayContaining([
        expect.stringContaining('warn: starting without the store (mongoose), retrying: MongoDB could not be reached'),
        expect.stringContaining("warn: Rows.handle: can't register its group, retrying"),
      ]),
    );
    const refused = await streamsOf(app)
      .append('rows', { row: 0 })
      .catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(AppendError);
    expect(refused).toMatchObject({ code: ErrorCode.StoreUnavailable, stored: 'no' });
    await expect(statusOf(app)).resolves.toMatchObject({
      store: { error: { code: ErrorCode.StoreUnavailable } },
      health: { status: 'degraded' },
    });

    await server.restart();
    // Not because somebody appends: the consumer recovers on its own.
    await vi.waitUntil(async () => (await statusOf(app)).streams[0]?.consumers[0]?.local?.state === 'running', SOON);
    await works(app);
    await vi.waitUntil(async () => (await streamsOf(app).stream('rows').stats()).buffered === 0, SOON);
    expect((await statusOf(app)).health).toEqual({ status: 'ok', reasons: [] });
  });

  it('with lazyConnection, does not keep the application from closing', async () => {
    const imports = [mongoose(database, { ...SELECTION, lazyConnection: true }), MinibatchModule.forRoot()];
    const app = await start({ imports, providers });
    await expect(app.close()).resolves.toBeUndefined();
  });
});

describe('a server that goes away while windows run, and comes back', () => {
  const ROWS = 3_000;
  const BLOCK = 50;

  beforeEach(() => server.restart());

  /** Writes down which windows' commit points are in the store, in the order in which it was known. */
  function watchCommits(app: TestingModule): string[] {
    const store = app.get<StreamStore>('MINIBATCH_STREAM_STORE', { strict: false });
    const ids = new Map<number, string>();
    const commits: string[] = [];
    const { claim, commit } = store;
    store.claim = (lease, windows) => {
      for (const { seq, id } of windows) ids.set(seq, id);
      return claim.call(store, lease, windows);
    };
    store.commit = async (lease, value) => {
      const groups = await commit.call(store, lease, value);
      commits.push(...value.finished.map((seq) => ids.get(seq) ?? 'unknown'));
      return groups;
    };
    return commits;
  }

  /** As an application would that means it: until it is acknowledged. Resolves with what failed on the way. */
  async function produce(app: TestingModule): Promise<AppendError[]> {
    const failures: AppendError[] = [];
    for (let from = 0; from < ROWS; from += BLOCK) {
      const rows = Array.from({ length: BLOCK }, (_, index) => ({ row: from + index }));
      for (;;) {
        try {
          await streamsOf(app).appendMany<Row>('rows', rows, { each: ({ row }) => ({ dedupeId: `row:${row}` }) });
          break;
        } catch (error) {
          if (!(error instanceof AppendError)) throw error;
          failures.push(error);
          // The test has failed and closed the application, which refuses at once: another try would keep the event loop forever.
          if (error.code === ErrorCode.ShuttingDown) return failures;
        }
      }
    }
    return failures;
  }

  it(
    'loses nothing, commits nothing twice, and the application recovers on its own',
    { timeout: 120_000 },
    async () => {
      const log = new Log();
      const app = await start({ imports: [mongoose(database, SELECTION), MinibatchModule.forRoot()], providers }, log);
      // On a busy machine the first connection may take longer than one selection: then Mongoose has told of it.
      log.lines.length = 0;
      const commits = watchCommits(app);
      const results = app.get(Results);
      const producing = produce(app);
      const activity = () => statusOf(app).then(({ streams }) => streams[0]?.consumers[0]?.local?.activity);

      // What is stored already, so that it adds nothing. The producer itself may be through before the server goes.
      const probes: unknown[] = [];
      const probe = () => streamsOf(app).append('rows', { row: 0 }, { dedupeId: 'row:0' });

      for (const share of [1 / 5, 3 / 5]) {
        await vi.waitUntil(() => results.rows >= ROWS * share, SOON);
        await server.kill9();
        await vi.waitUntil(async () => (await activity()) === 'unavailable', SOON);
        expect((await statusOf(app)).health.reasons.map(({ what }) => what)).toEqual(
          expect.arrayContaining(['store-unavailable', 'consumer-unavailable']),
        );
        probes.push(await probe().catch((error: unknown) => error));
        await server.restart();
      }
      const failures = [...(await producing), ...probes];
      await vi.waitUntil(() => results.rows >= ROWS, SOON);
      const buffered = async () => (await streamsOf(app).stream('rows').stats()).buffered;
      await vi.waitUntil(async () => (await buffered()) === 0, SOON);

      // Each row in one window, each window committed once, and none begun anew: the process had all of them in hand.
      const rows = results.puts.flatMap((put) => put.rows);
      expect(rows.toSorted((a, b) => a - b)).toEqual(Array.from({ length: ROWS }, (_, row) => row));
      const windows = results.puts.map(({ window }) => window);
      expect(new Set(windows).size).toBe(windows.length);
      expect(app.get(Rows).started.toSorted()).toEqual(windows.toSorted());
      expect([...new Set(commits)].toSorted()).toEqual(windows.toSorted());

      // The outage was felt, by producer and consumer, and told of with codes.
      expect(probes).toHaveLength(2);
      for (const failure of failures) expect(failure).toBeInstanceOf(MinibatchError);
      expect(log.lines).toContainEqual(
        expect.stringMatching(/warn: .*retrying: MongoDB could not .*MINIBATCH_STORE_UNAVAILABLE/),
      );
      expect(log.lines.filter((line) => line.startsWith('error'))).toEqual([]);
      expect((await statusOf(app)).health).toEqual({ status: 'ok', reasons: [] });
    },
  );
});
