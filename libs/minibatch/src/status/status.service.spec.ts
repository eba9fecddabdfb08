import { describe, expect, it } from 'vitest';
import { FakeEngine } from '../consumers/fake-engine.spec.support.js';
import { ConsumerState, type ConsumerStatus } from '../engine/engine.interface.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { StreamStats } from '../storage/stream-store.interface.js';
import { FakeStore } from '../streams/fake-store.spec.support.js';
import { StreamHub } from '../streams/stream-hub.js';
import { thisProcess } from '../common/process-identity.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { StatusService } from './status.service.js';

const stats = (name: string, more: Partial<StreamStats> = {}): StreamStats => ({
  name,
  status: 'open',
  created: new Date(0),
  groups: [],
  paused: false,
  flushes: 0,
  buffered: 0,
  deadLetters: 0,
  consumers: [],
  ...more,
});

const stored = (group: string, more: { pending?: number; owner?: boolean } = {}): StreamStats['consumers'][number] => ({
  group,
  partition: 0,
  lease: {
    fence: 1,
    counter: 1,
    ...(more.owner === false ? {} : { owner: { id: 'x', host: 'box', bootId: '', pid: 42, startTime: '' } }),
  },
  progress: { lastSeq: 3, windows: 3, messages: 30 },
  openWindows: 1,
  pending: more.pending ?? 5,
});

const local = (stream: string, group: string, more: Partial<ConsumerStatus> = {}): ConsumerStatus => ({
  key: { stream, group, partition: 0 },
  label: 'Report.summarize',
  state: 'running',
  buffered: 1,
  inFlight: 2,
  committedWindows: 3,
  committedMessages: 30,
  failures: 0,
  sinkFailures: 0,
  lostWorkers: 0,
  skippedSinks: 0,
  dropped: 0,
  expired: 0,
  deadLettered: 0,
  vanished: 0,
  damaged: 0,
  recovered: 0,
  ...more,
});

function setUp(streams: readonly StreamStats[] = [], statuses: ConsumerStatus[] = []) {
  const store = new FakeStore();
  const counts: unknown[] = [];
  store.stats = async (names) => {
    counts.push(names);
    return streams;
  };
  const clock = new VirtualClock(0);
  const engine = new FakeEngine();
  engine.statuses = statuses;
  const log = { log() {}, warn() {}, error() {} };
  const hub = new StreamHub({ store: store.port, clock, log, retry: { base: 1000, max: 1000, jitter: 0 } });
  return { status: new StatusService(store.port, engine, hub, clock), store, hub, counts };
}

describe('a method that has not settled', () => {
  const reasons = async (age: number, timedOut?: true) => {
    const unsettled = [{ window: 'w', since: new Date(-age), ...(timedOut && { timedOut }) }];
    const { status } = setUp(
      [stats('flights', { consumers: [stored('default')] })],
      [local('flights', 'default', { unsettled })],
    );
    const { health, streams } = await status.snapshot();
    expect(streams[0]?.consumers[0]?.local?.unsettled).toEqual([
      { window: 'w', since: new Date(-age).toISOString(), ...(timedOut && { timedOut }) },
    ]);
    return health.reasons.map(({ what }) => what);
  };

  it('may be slow: health waits for five minutes, unless it has outlived its timeout', async () => {
    expect(await reasons(299_999)).toEqual([]);
    expect(await reasons(300_000)).toEqual(['consumer-unsettled']);
    expect(await reasons(1_000, true)).toEqual(['consumer-unsettled']);
  });
});

describe('StatusService', () => {
  it('joins what the store and this process know, as plain JSON', async () => {
    const { status } = setUp(
      [stats('flights', { buffered: 5, oldest: new Date(10), consumers: [stored('default'), stored('elsewhere')] })],
      [
        local('flights', 'default', {
          lastCommit: new Date(20),
          lastError: { at: new Date(30), code: ErrorCode.HandlerFailed, message: 'oh' },
        }),
        local('not yet stored', 'default', { state: 'standby' }),
      ],
    );
    const snapshot = await status.snapshot();
    expect(JSON.parse(JSON.stringify(snapshot))).toEqual(snapshot);
    expect(snapshot).toMatchObject({
      at: '1970-01-01T00:00:00.000Z',
      store: { name: 'fake' },
      health: { status: 'ok', reasons: [] },
      streams: [
        {
          name: 'flights',
          stored: { status: 'open', buffered: 5, oldest: '1970-01-01T00:00:00.010Z' },
          consumers: [
            {
              group: 'default',
              stored: { holder: { host: 'box', pid: 42 }, pending: 5, openWindows: 1, windows: 3, messages: 30 },
              local: {
                label: 'Report.summarize',
                state: 'running',
                lastCommit: '1970-01-01T00:00:00.020Z',
                lastError: { at: '1970-01-01T00:00:00.030Z', code: ErrorCode.HandlerFailed, message: 'oh' },
              },
            },
            { group: 'elsewhere' },
          ],
          sources: [],
        },
        { name: 'not yet stored', consumers: [{ group: 'default', local: { state: 'standby' } }] },
      ],
    });
    expect(snapshot.streams[0]?.consumers[1]).not.toHaveProperty('local');
    expect(snapshot.streams[1]).not.toHaveProperty('stored');
  });

  it('counts once for all who ask at the same time, and anew afterwards', async () => {
    const { status, counts } = setUp();
    await Promise.all([status.snapshot(), status.health(), status.snapshot()]);
    expect(counts).toEqual([undefined]);
    await status.snapshot();
    expect(counts).toHaveLength(2);
  });

  it('counts once for all who ask in one turn, also where a store counts at once', async () => {
    const { status, store } = setUp();
    let counted = 0;
    store.stats = () => {
      counted += 1;
      return Promise.resolve([]);
    };
    const asking = Array.from({ length: 50 }, async (_, n) => {
      for (let turns = 0; turns < n % 5; turns += 1) await Promise.resolve();
      return status.snapshot();
    });
    await Promise.all(asking);
    expect(counted).toBe(1);
  });

  it('finds one stream, counted alone, or says that there is none', async () => {
    const { status, store, counts } = setUp([stats('flights')]);
    const [found] = await Promise.all([status.stream('flights'), status.stream('flights')]);
    expect(found).toMatchObject({ name: 'flights' });
    expect(counts).toEqual([['flights']]);
    await expect(status.stream('other')).rejects.toMatchObject({ code: ErrorCode.UnknownStream });
    store.stats = () => Promise.reject(new Error('gone'));
    await expect(status.stream('flights')).rejects.toMatchObject({ code: ErrorCode.StoreUnavailable });
  });

  it('says that the store denies the right to count', async () => {
    const { status, store } = setUp([stats('flights')]);
    store.stats = () => Promise.reject(new MinibatchError(ErrorCode.StoreDenied, 'no right to find'));
    await expect(status.stream('flights')).rejects.toMatchObject({ code: ErrorCode.StoreDenied });
    const { reasons } = await status.health();
    expect(reasons).toMatchObject([{ what: 'store-unavailable', message: expect.stringContaining('denies a right') }]);
    expect(reasons[0]?.message).toContain('MINIBATCH_STORE_DENIED');
  });

  it('works without the store', async () => {
    const { status, store } = setUp([], [local('flights', 'default')]);
    store.stats = () => Promise.reject(new MinibatchError(ErrorCode.StoreUnavailable, 'gone'));
    await expect(status.snapshot()).resolves.toMatchObject({
      store: { error: { code: ErrorCode.StoreUnavailable } },
      health: { status: 'degraded', reasons: [{ what: 'store-unavailable' }] },
      streams: [{ name: 'flights', consumers: [{ local: { label: 'Report.summarize' } }] }],
    });
  });
});

describe('health', () => {
  it.each([
    ['consumer-blocked', 'blocked'],
    ['consumer-stalled', 'stalled'],
    ['consumer-retrying', 'retrying'],
    ['consumer-unavailable', 'unavailable'],
    [undefined, 'waiting'],
    [undefined, 'handling'],
    [undefined, 'paused'],
  ] as const)('%s: a consumer that is %s', async (what, activity) => {
    const lastError = { at: new Date(0), code: 'X', message: 'the reason' };
    const { status } = setUp([], [local('flights', 'default', { activity, lastError })]);
    const { reasons } = await status.health();
    expect(reasons.map((reason) => reason.what)).toEqual(what ? [what] : []);
    for (const reason of reasons) expect(reason).toMatchObject({ stream: 'flights', group: 'default' });
  });

  it.each([
    [
      ErrorCode.EmitterFailed,
      'the emitter of Report.summarize fails, and no window is made until it answers; it is asked again: bad',
    ],
    [ErrorCode.HandlerFailed, 'the emitter of Report.summarize takes nothing of what it is shown: raise lookAhead'],
  ])('says why an emitter is stalled: %s', async (code, why) => {
    const lastError = { at: new Date(0), code, message: 'bad' };
    const { status } = setUp([], [local('flights', 'default', { activity: 'stalled', lastError })]);
    const { reasons } = await status.health();
    expect(reasons).toMatchObject([{ what: 'consumer-stalled', message: expect.stringContaining(why) as string }]);
  });

  it.each([
    [
      ConsumerState.Standby,
      ErrorCode.StoreDenied,
      'Report.summarize does not run, because the store denies it a right',
    ],
    [
      ConsumerState.Standby,
      ErrorCode.StoreUnavailable,
      'Report.summarize does not run, because the store does not answer',
    ],
    [
      ConsumerState.Standby,
      ErrorCode.InvalidOptions,
      "Report.summarize does not run, because its group can't be registered",
    ],
    [ConsumerState.Recovering, ErrorCode.StoreDenied, 'the store denies Report.summarize a right'],
    [ConsumerState.Running, ErrorCode.StoreDenied, 'the store denies Report.summarize a right'],
    [ConsumerState.Running, ErrorCode.StoreRefused, 'the store refuses what Report.summarize asks'],
    [
      ConsumerState.Standby,
      ErrorCode.StoreRefused,
      'Report.summarize does not run, because the store refuses what it is asked',
    ],
    [ConsumerState.Running, ErrorCode.StoreUnavailable, 'the store does not answer Report.summarize'],
  ])('says why a consumer is kept from its work: %s, %s', async (state, code, why) => {
    const lastError = { at: new Date(0), code, message: `it went wrong [${code}]` };
    const { status } = setUp([], [local('flights', 'default', { state, activity: 'unavailable', lastError })]);
    expect((await status.health()).reasons).toMatchObject([
      { what: 'consumer-unavailable', message: `${why}: it went wrong [${code}]` },
    ]);
  });

  it.each([
    ['group-unserved', stats('s', { buffered: 5, consumers: [stored('g', { owner: false })] })],
    [undefined, stats('s', { buffered: 5, paused: true, consumers: [stored('g', { owner: false })] })],
    [undefined, stats('s', { consumers: [stored('g', { owner: false, pending: 0 })] })],
    ['stream-unconsumed', stats('s', { buffered: 5 })],
    ['stream-read-elsewhere', stats('s', { readElsewhere: new Date(-1_000), consumers: [stored('g')] })],
    // Long ago, as before a migration.
    [undefined, stats('s', { readElsewhere: new Date(-3_600_000), consumers: [stored('g')] })],
    // Nobody here reads it.
    [undefined, stats('s', { readElsewhere: new Date(0) })],
    [undefined, stats('s')],
  ])('%s', async (what, stream) => {
    const { status } = setUp([stream]);
    expect((await status.health()).reasons.map((reason) => reason.what)).toEqual(what ? [what] : []);
  });

  it('says how to be rid of a group that no process serves, also after the one that did was killed', async () => {
    const { owner, ...lease } = stored('g', {}).lease;
    const dead = { ...owner, ...thisProcess(), startTime: '1' };
    const { status } = setUp([
      stats('s', { buffered: 5, consumers: [{ ...stored('g', {}), lease: { ...lease, owner: dead } }] }),
    ]);
    const [reason] = (await status.health()).reasons;
    expect(reason).toMatchObject({ what: 'group-unserved', stream: 's', group: 'g' });
    expect(reason?.message).toContain("streams.removeGroup('s', 'g')");
  });

  it('source-failing: a source that waits for its next start', async () => {
    const { status, hub } = setUp();
    const source = hub.stream('s').attach({ stream: () => Promise.reject(new Error('no broker')) }, { name: 'feed' });
    await new Promise((resolve) => setImmediate(resolve));
    expect(await status.snapshot()).toMatchObject({
      health: { reasons: [{ what: 'source-failing', stream: 's' }] },
      streams: [
        { name: 's', sources: [{ name: 'feed', state: 'waiting', failures: 1, lastError: { message: 'no broker' } }] },
      ],
    });
    await source.detach();
    expect((await status.health()).status).toBe('ok');
  });
});
