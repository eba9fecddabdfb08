import { describe, expect, it } from 'vitest';
import { AppendError, ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { Clock } from '../common/clock.js';
import type { AppendOutcome } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { FakeStore, turn } from './fake-store.spec.support.js';
import type { PendingLimits } from './pending-limit.js';
import { defineStream } from '../definitions/stream-ref.js';
import { StreamHub } from './stream-hub.js';
import type { StreamOptions } from '../definitions/stream-settings.js';

const SELECTION = 30_000;

/** Calls to a server that is away fail after the selection time, or go through when it comes back. */
class Server {
  away = false;
  private held = new Set<() => void>();

  constructor(private readonly clock: Clock) {}

  async answer(): Promise<void> {
    if (!this.away) return;
    await new Promise<void>((resolve, reject) => {
      const cancel = this.clock.schedule(SELECTION, () => {
        this.held.delete(back);
        reject(new MinibatchError(ErrorCode.StoreUnavailable, 'MongoDB is away'));
      });
      const back = () => {
        cancel();
        resolve();
      };
      this.held.add(back);
    });
  }

  back(): void {
    this.away = false;
    for (const go of this.held) go();
    this.held.clear();
  }
}

/** A store on the server that throws, or as some do says of each message what it failed with. */
class ServedStore extends FakeStore {
  patience: number | undefined;
  saysOutcomes = false;

  constructor(private readonly server: Server) {
    super();
  }

  override async ensureStream(name: string) {
    await this.server.answer();
    return super.ensureStream(name);
  }

  override async count(name: string, most: number) {
    await this.server.answer();
    return super.count(name, most);
  }

  override async append(...args: Parameters<FakeStore['append']>): Promise<readonly AppendOutcome[]> {
    try {
      await this.server.answer();
    } catch (cause) {
      if (!this.saysOutcomes) throw cause;
      const error = new AppendError(ErrorCode.AppendFailed, 'MongoDB could not append', 'no', { cause });
      return args[0].map(() => ({ status: 'failed', error, storeAway: true }));
    }
    return super.append(...args);
  }
}

interface Settled {
  readonly after: number;
  readonly error: AppendError | undefined;
}

function setUp({ pending, stream = {} }: { pending?: PendingLimits; stream?: StreamOptions } = {}) {
  const clock = new VirtualClock(0);
  const server = new Server(clock);
  const store = new ServedStore(server);
  const log = { log() {}, warn() {}, error() {} };
  const retry = { base: 1000, max: 60_000, jitter: 0 };
  const hub = new StreamHub({ store: store.port, clock, log, retry, ...(pending && { pending }) });
  const ref = defineStream<unknown>('s', stream);
  const settled: Settled[] = [];
  const append = (data: unknown, name: typeof ref | string = ref, options = {}) => {
    const made = clock.monotonic();
    const note = (error?: unknown) => {
      if (error !== undefined && !(error instanceof AppendError)) throw new Error('no AppendError', { cause: error });
      settled.push({ after: clock.monotonic() - made, error });
    };
    return hub
      .stream(name)
      .append(data, options)
      .then(() => note(), note);
  };
  /** A number of appends per second, for a number of seconds. */
  const produce = async (perSecond: number, seconds: number) => {
    for (let made = 0; made < perSecond * seconds; made += 1) {
      void append(made);
      await clock.advance(1000 / perSecond, turn);
    }
  };
  const writtenData = () => store.written.flat();
  return { clock, server, store, hub, append, produce, settled, writtenData };
}

describe.each([
  ['throws', {}],
  ['throws, with a patience of its own', { patience: SELECTION }],
  ['says what became of each message', { saysOutcomes: true, patience: SELECTION }],
])('while the store is away and %s', (_, kind) => {
  it.each([
    ['', {}],
    [', on a stream with a limit', { maxBuffered: 100_000, overflow: 'wait' } as const],
  ])('each append fails one selection time after its own call%s', async (_limit, stream) => {
    const { clock, server, store, append, produce, settled } = setUp({ stream });
    Object.assign(store, kind);
    await append('before');
    server.away = true;
    await produce(50, 90);
    await clock.advance(SELECTION, turn);
    const failed = settled.slice(1);
    expect(failed).toHaveLength(50 * 90);
    expect(Math.max(...failed.map(({ after }) => after))).toBeLessThan(SELECTION + 1_500);
    // Those before the first failure may have gone with it.
    expect(Math.min(...failed.map(({ after }) => after))).toBeGreaterThan(SELECTION - 1_500);
    expect(failed.every(({ error }) => error?.stored !== undefined)).toBe(true);
    const certain = failed.filter(({ error }) => error?.stored === 'no');
    expect(certain.length).toBeGreaterThanOrEqual(50 * 90 - 1_000);
    expect(store.written).toEqual([['before']]);
  });

  it('what has not waited for so long is stored when it is back, in the order of the calls', async () => {
    const { clock, server, store, append, produce, settled, writtenData } = setUp();
    Object.assign(store, kind);
    await append('before');
    server.away = true;
    await produce(20, 50);
    expect(settled.filter(({ error }) => error).length).toBeGreaterThan(300);
    server.back();
    await clock.advance(2_000, turn);
    expect(settled).toHaveLength(1 + 20 * 50);
    const stored = settled.filter(({ error }) => error === undefined).length;
    expect(stored).toBeGreaterThan(20 * 29);
    const [, ...after] = writtenData() as number[];
    expect(after).toEqual(after.toSorted((a, b) => a - b));
    expect(after.at(-1)).toBe(20 * 50 - 1);
    expect(after).toHaveLength(stored - 1);
  });

  it('a stream that was not known before does not hold up the others for another selection time', async () => {
    const { clock, server, store, append, settled } = setUp();
    Object.assign(store, kind);
    await append('before');
    server.away = true;
    void append(1, 'new');
    void append(2);
    await clock.advance(SELECTION + 1_500, turn);
    expect(settled.slice(1)).toMatchObject([{ error: { stored: 'no' } }, { error: { stored: 'no' } }]);
  });

  it('a close ends the appends in time, and says what is known of each', async () => {
    const { clock, server, store, hub, append, settled } = setUp();
    Object.assign(store, kind);
    await append('before');
    server.away = true;
    void append(1);
    await turn();
    void append(2);
    void append(3, 'new');
    let closed: number | undefined;
    void hub.close(2_000).then(() => (closed = clock.monotonic()));
    await clock.advance(2_000, turn);
    await turn();
    expect(closed).toBe(2_000);
    expect(settled.slice(1).map(({ error }) => [error?.code, error?.stored])).toEqual([
      [ErrorCode.StoreUnavailable, 'no'],
      [ErrorCode.StoreUnavailable, 'no'],
      [ErrorCode.StoreUnavailable, 'unknown'],
    ]);
    server.back();
    await turn();
  });
});

/** What a server that has just died does to what is sent to it: it refuses it at once, so it surely has not stored it. */
const refused: AppendOutcome = {
  status: 'failed',
  error: new AppendError(ErrorCode.AppendFailed, 'connection refused', 'no'),
  storeAway: true,
};

describe('appends that a store refuses because it has just gone away', () => {
  /** Refuses the next writes; takes what comes after. `answers` decides about each message. */
  function refuseNext(
    store: FakeStore,
    times: number,
    answers: (data: unknown) => AppendOutcome | undefined = () => refused,
  ) {
    const append = store.append.bind(store);
    let left = times;
    let refusals = 0;
    store.append = async (messages, ...rest) => {
      if (left === 0) return append(messages, ...rest);
      left -= 1;
      refusals += 1;
      const stored = messages.filter(({ data }) => answers(data) === undefined);
      const outcomes = stored.length > 0 ? [...(await append(stored, {}))] : [];
      return messages.map(({ data }) => answers(data) ?? outcomes.shift() ?? refused);
    };
    return () => refusals;
  }

  it('wait for it and are stored, once and in the order of the calls', async () => {
    const { clock, store, append, settled, writtenData } = setUp();
    store.patience = SELECTION;
    await append('before');
    const refusals = refuseNext(store, 3);
    void append(1);
    await turn();
    void append(2);
    void append(3, 'new');
    await clock.advance(5_000, turn);
    expect(settled.slice(1).map(({ error }) => error)).toEqual([undefined, undefined, undefined]);
    expect(writtenData()).toEqual(['before', 1, 2, 3]);
    expect(refusals()).toBe(3);
  });

  it('fail after one selection time if it stays away, and do not ask without a pause', async () => {
    const { clock, store, append, settled } = setUp();
    store.patience = SELECTION;
    await append('before');
    const refusals = refuseNext(store, Number.POSITIVE_INFINITY);
    void append(1);
    await clock.advance(10_000, turn);
    void append(2);
    await clock.advance(2 * SELECTION, turn);
    expect(settled.slice(1)).toMatchObject([{ error: { stored: 'no' } }, { error: { stored: 'no' } }]);
    for (const { after } of settled.slice(1)) {
      expect(after).toBeGreaterThanOrEqual(SELECTION);
      expect(after).toBeLessThan(SELECTION + 1_500);
    }
    expect(refusals()).toBeLessThan(100);
  });

  it('wait on a stream that was not known before, too', async () => {
    const { clock, store, append, settled, writtenData } = setUp();
    store.patience = SELECTION;
    await append('before');
    const ensure = store.ensureStream.bind(store);
    let refusals = 0;
    store.ensureStream = async (name) => {
      if (name !== 'new' || refusals === 2) return ensure(name);
      refusals += 1;
      throw new MinibatchError(ErrorCode.StoreUnavailable, 'connection refused', { details: { outOfReach: true } });
    };
    void append(1, 'new');
    void append(2);
    await clock.advance(5_000, turn);
    expect(settled.slice(1).map(({ error }) => error)).toEqual([undefined, undefined]);
    expect(writtenData()).toEqual(['before', 1, 2]);
  });

  it('send only the messages of a call again that were refused, and answer it as a whole', async () => {
    const { clock, store, hub, append, writtenData } = setUp();
    store.patience = SELECTION;
    await append('before');
    const wrong = new AppendError(ErrorCode.NotStorable, 'wrong', 'no');
    refuseNext(store, 1, (data) => {
      if (data === 3) return { status: 'failed', error: wrong };
      return data === 1 ? undefined : refused;
    });
    const failure = hub
      .stream('s')
      .appendMany([1, 2, 3, 4])
      .catch((error: unknown) => error);
    await clock.advance(5_000, turn);
    expect(await failure).toMatchObject({
      details: {
        failed: [{ index: 2, error: wrong }],
        results: [{ id: expect.any(String) as unknown }, { id: expect.any(String) as unknown }, undefined, {}],
      },
    });
    expect(writtenData()).toEqual(['before', 1, 2, 4]);
  });

  it('store the position of a source behind them once all are stored, and not if one never will be', async () => {
    const { clock, store, hub, append } = setUp();
    store.patience = SELECTION;
    await append('before');
    refuseNext(store, 1, (data) => (data === 1 ? undefined : refused));
    hub.stream('s').attach({
      stream: async (target) => {
        await target.appendMany([1, 2], { position: 'behind 2' });
      },
    });
    await clock.advance(5_000, turn);
    expect([...store.checkpoints.values()]).toEqual(['behind 2']);
  });

  it('fail as not stored when the application closes', async () => {
    const { clock, store, hub, append, settled } = setUp();
    store.patience = SELECTION;
    await append('before');
    refuseNext(store, Number.POSITIVE_INFINITY);
    void append(1);
    await turn();
    const closing = hub.close(2_000);
    await clock.advance(2_000, turn);
    await closing;
    expect(settled.slice(1)).toMatchObject([{ error: { code: ErrorCode.StoreUnavailable, stored: 'no' } }]);
  });
});

describe('a failure that says at once that the store is away', () => {
  it('does not make the queue ask without a pause', async () => {
    const { clock, store, append, settled } = setUp();
    await append('before');
    const down = () => Promise.reject(new MinibatchError(ErrorCode.StoreUnavailable, 'down'));
    let looks = 0;
    store.append = down;
    store.ensureStream = () => {
      looks += 1;
      return down();
    };
    void append(1);
    await turn();
    void append(2);
    await clock.advance(10_000, turn);
    expect(settled.slice(1)).toMatchObject([
      { after: 0, error: { stored: 'unknown' } },
      { after: 1_000, error: { stored: 'no' } },
    ]);
    expect(looks).toBeLessThan(20);
  });
});

describe('the queue of appends', () => {
  const few = { messages: 3, bytes: 10_000 };

  it('refuses what is beyond its messages, and takes more as soon as some are answered', async () => {
    const { store, append, settled } = setUp({ pending: few });
    await append('before');
    store.auto = false;
    for (const data of [1, 2, 3, 4, 5]) void append(data);
    await turn();
    expect(settled.slice(1)).toMatchObject([
      {
        error: { code: ErrorCode.StreamFull, stored: 'no', details: { stream: 's', pending: 3, maxPendingAppends: 3 } },
      },
      { error: { code: ErrorCode.StreamFull } },
    ]);
    store.writes.at(-1)?.answer();
    await turn();
    void append(6);
    await turn();
    store.writes.at(-1)?.answer();
    await turn();
    expect(store.written).toEqual([['before'], [1, 2, 3], [6]]);
  });

  it('counts keys, headers and dedupe ids like data', async () => {
    const { store, append, settled } = setUp({ pending: { messages: 1000, bytes: 10_000 } });
    await append('before');
    store.auto = false;
    const large = 'x'.repeat(4_000);
    void append(1, 's', { key: large });
    void append(2, 's', { headers: { [large]: 'ä'.repeat(2_000) } });
    void append(3, 's', { dedupeId: 'a' });
    await turn();
    expect(settled.slice(1)).toMatchObject([{ error: { code: ErrorCode.StreamFull } }]);
  });

  it('lets those wait whose stream waits, in the order of the calls, and takes a call of any size', async () => {
    const { store, hub, append, settled } = setUp({ pending: few, stream: { maxBuffered: 1000, overflow: 'wait' } });
    await append('before');
    store.auto = false;
    const many = hub.stream('s').appendMany([1, 2, 3, 4, 5]);
    for (const data of [6, 7, 8, 9]) void append(data);
    await turn();
    expect(settled).toHaveLength(1);
    for (const group of [[1, 2, 3, 4, 5], [6, 7, 8], [9]]) {
      expect(store.written.at(-1)).toEqual(group);
      store.writes.at(-1)?.answer();
      await turn();
    }
    expect(await many).toHaveLength(5);
    expect(settled.filter(({ error }) => error)).toEqual([]);
  });

  it('lets sources wait on any stream, and a close ends their wait', async () => {
    const { store, hub, clock, append } = setUp({ pending: few });
    await append('before');
    store.auto = false;
    for (const data of [1, 2, 3]) void append(data);
    const failed: unknown[] = [];
    hub.stream('s').attach({
      stream: async (target) => {
        await target.append(4).catch((error: unknown) => failed.push(error));
      },
    });
    await turn();
    expect(failed).toEqual([]);
    void hub.close(500);
    await clock.advance(500, turn);
    expect(failed).toMatchObject([{ code: ErrorCode.StoreUnavailable, stored: 'no' }]);
  });
});
