import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import type { AppendOutcome } from '../storage/stream-store.interface.js';
import { FakeStore, turn } from '../streams/fake-store.spec.support.js';
import { StreamHub } from '../streams/stream-hub.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import type { Source, SourceTarget } from './source.interface.js';

function setUp() {
  const store = new FakeStore();
  const clock = new VirtualClock();
  const lines: string[] = [];
  const notes: string[] = [];
  const hub = new StreamHub({
    store: store.port,
    clock,
    log: { log: (line) => notes.push(line), warn: (line) => lines.push(line), error: (line) => lines.push(line) },
    retry: { base: 1000, max: 60_000, jitter: 0 },
  });
  return { store, clock, lines, notes, hub, stream: hub.stream<number>('s') };
}

/** Resolves when the signal aborts. */
const aborted = (signal: AbortSignal) =>
  new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));

class Numbers implements Source<number> {
  constructor(private readonly count: number) {}
  async *stream() {
    for (let n = 0; n < this.count; n += 1) yield n;
  }
}

describe('a source', () => {
  it('that is a generator appends its items in order and is done', async () => {
    const { store, stream } = setUp();
    const source = stream.attach(new Numbers(250));
    await source.finished;
    expect(store.written.flat()).toEqual(Array.from({ length: 250 }, (_, n) => n));
    expect(source.status).toEqual({
      stream: 's',
      name: 'Numbers',
      state: 'done',
      appended: 250,
      duplicates: 0,
      failures: 0,
    });
  });

  it('that is a generator takes at most 100 items before the store answers', async () => {
    const { store, stream } = setUp();
    store.auto = false;
    let taken = 0;
    const source = stream.attach({
      async *stream() {
        for (; taken < 1000; taken += 1) yield taken;
      },
    });
    await turn();
    await turn();
    expect(taken).toBeLessThanOrEqual(100);
    store.auto = true;
    store.writes[0]?.answer();
    await source.finished;
    expect(store.written.flat()).toHaveLength(1000);
  });

  it('that appends on its own gets its position back', async () => {
    const { store, hub, stream } = setUp();
    const positions: unknown[] = [];
    const source: Source<number> = {
      async stream(target: SourceTarget<number>) {
        positions.push(await target.position());
        await target.append(1, { key: 'k', position: { row: 1 } });
        await target.appendMany([2, 3], { each: (n) => ({ dedupeId: `${n}` }), position: { row: 3 } });
      },
    };
    await stream.attach(source, { name: 'file' }).finished;
    await hub.stream<number>('s').attach(source, { name: 'file' }).finished;
    expect(positions).toEqual([undefined, { row: 3 }]);
    expect(store.writes[1]?.messages).toMatchObject([
      { data: 2, dedupeId: '2' },
      { data: 3, dedupeId: '3' },
    ]);
    expect(hub.sources()).toMatchObject([{ name: 'file', appended: 3, state: 'done' }]);
  });

  it('is told where to log and which clock to wait by', async () => {
    const { clock, stream, lines } = setUp();
    const times: number[] = [];
    const source = stream.attach({
      async stream({ log, clock: given }: SourceTarget<number>, signal: AbortSignal) {
        log?.warn('nobody sends anything');
        given?.schedule(60_000, () => times.push(given.monotonic()));
        await aborted(signal);
      },
    });
    await turn();
    await clock.advance(60_000);
    expect(lines).toEqual(['nobody sends anything']);
    expect(times).toEqual([60_000]);
    await source.detach();
  });

  it('counts duplicates apart, and says so once for each power of ten', async () => {
    const { store, stream, lines } = setUp();
    store.auto = false;
    const source = stream.attach({
      async stream(target: SourceTarget<number>) {
        await target.append(0);
        await target.appendMany([1, 2, 3]);
        await target.appendMany(Array.from({ length: 120 }, (_, n) => n));
      },
    });
    const duplicates = (count: number): AppendOutcome[] => Array(count).fill({ status: 'duplicate' });
    await turn();
    store.writes[0]?.answer(duplicates(1));
    await turn();
    expect(source.status).toMatchObject({ appended: 0, duplicates: 1 });
    expect(lines).toEqual([expect.stringMatching(/^source source of 's': 1 message ignored.*seen their dedupeId/)]);
    store.writes[1]?.answer([...duplicates(1), { status: 'stored', id: 'a' }, ...duplicates(1)]);
    await turn();
    expect(source.status).toMatchObject({ appended: 1, duplicates: 3 });
    store.writes[2]?.answer(duplicates(120));
    await source.finished;
    expect(source.status).toMatchObject({ appended: 1, duplicates: 123, state: 'done' });
    expect(lines).toHaveLength(2);
    expect(lines[1]).toContain('123 messages ignored');
  });

  it('counts what was stored of an append that failed', async () => {
    const { store, stream } = setUp();
    store.auto = false;
    const source = stream.attach({
      stream: (target: SourceTarget<number>) => target.appendMany([1, 2, 3]),
    });
    await turn();
    store.writes[0]?.answer([
      { status: 'stored', id: 'a' },
      { status: 'failed', error: new Error('no') },
      { status: 'duplicate' },
    ]);
    await turn();
    expect(source.status).toMatchObject({ state: 'waiting', appended: 1, duplicates: 1, failures: 1 });
    await source.detach();
  });

  it('that fails is started again with growing waits, until it appends', async () => {
    const { clock, stream, lines } = setUp();
    const starts: number[] = [];
    const source = stream.attach(
      {
        async *stream() {
          starts.push(clock.monotonic());
          if (starts.length === 4) yield 1;
          if (starts.length < 6) throw new Error(`attempt ${starts.length}`);
        },
      },
      { name: 'shaky' },
    );
    await turn();
    expect(source.status).toMatchObject({
      state: 'waiting',
      failures: 1,
      lastError: { code: ErrorCode.SourceFailed, message: 'attempt 1' },
    });
    await clock.advance(60_000);
    await source.finished;
    expect(starts).toEqual([0, 1000, 3000, 7000, 8000, 10_000]);
    expect(source.status).toMatchObject({ state: 'done', failures: 5, appended: 1 });
    expect(lines[0]).toContain("source shaky of 's' failed and will be restarted: attempt 1");
  });

  it('that throws at once is no different', async () => {
    const { stream } = setUp();
    const source = stream.attach({
      stream() {
        throw new Error('at once');
      },
    });
    await turn();
    expect(source.status).toMatchObject({ state: 'waiting', failures: 1 });
    await source.detach();
    expect(source.status.state).toBe('stopped');
  });

  it('whose item can’t be appended is started again, even while its next item does not come', async () => {
    const { stream } = setUp();
    const source = stream.attach({
      async *stream(_target: SourceTarget<number>, signal: AbortSignal) {
        yield (() => 1) as never;
        await aborted(signal);
      },
    });
    await turn();
    expect(source.status).toMatchObject({ state: 'waiting', lastError: { code: ErrorCode.NotStorable } });
    await source.detach();
  });

  it('stops when told, after its last append was answered', async () => {
    const { store, stream } = setUp();
    const source = stream.attach({
      async stream(target: SourceTarget<number>, signal: AbortSignal) {
        await aborted(signal);
        await target.append(9);
        throw new Error('interrupted');
      },
    });
    await turn();
    await source.detach();
    expect(store.written).toEqual([[9]]);
    expect(source.status).toMatchObject({ state: 'stopped', failures: 0 });
    await source.detach();
  });

  it('that waits for its next item stops at once, and its generator is closed', async () => {
    const { stream } = setUp();
    let closed = false;
    const source = stream.attach({
      async *stream() {
        try {
          yield 1;
          yield 2;
        } finally {
          closed = true;
        }
      },
    });
    await source.finished;
    expect(closed).toBe(true);

    const stuck = stream.attach({
      async *stream() {
        yield 1;
        await new Promise(() => {});
      },
    });
    await turn();
    await stuck.detach();
    expect(stuck.status.state).toBe('stopped');
  });

  it('that ignores its signal is abandoned after a second', async () => {
    const { clock, hub, stream, lines } = setUp();
    const source = stream.attach({ stream: () => new Promise<void>(() => {}) }, { name: 'deaf' });
    await turn();
    let stopped = false;
    void hub.stopSources().then(() => (stopped = true));
    await clock.advance(999);
    expect(stopped).toBe(false);
    await clock.advance(1);
    await turn();
    expect(stopped).toBe(true);
    expect(source.status.state).toBe('stopped');
    expect(lines).toEqual(["source deaf of 's' did not stop within 1000 ms of being aborted; abandoning it"]);
  });

  it('has a name of its own on its stream', () => {
    const { hub, stream } = setUp();
    const deaf = { stream: () => new Promise<void>(() => {}) };
    stream.attach(deaf);
    expect(() => stream.attach(deaf)).toThrow(expect.objectContaining({ code: ErrorCode.InvalidOptions }));
    stream.attach(deaf, { name: 'other' });
    hub.stream('t').attach(deaf);
    expect(hub.sources().map(({ stream: s, name }) => `${s}/${name}`)).toEqual(['s/source', 's/other', 't/source']);
  });

  it.each<[string, () => unknown]>([
    ['a plain generator', () => [1, 2, 3].values()],
    ['an array', () => [1, 2, 3]],
    ['an Observable', () => ({ subscribe: () => undefined })],
  ])('that returns %s fails and says what to do', async (_, feed) => {
    const { store, stream, lines } = setUp();
    const source = stream.attach({ stream: feed as Source<number>['stream'] });
    await turn();
    expect(source.status).toMatchObject({ failures: 1, lastError: { code: ErrorCode.SourceFailed } });
    expect(lines.join('\n')).toContain('Make it an async generator');
    expect(store.written).toEqual([]);
    await source.detach();
  });

  it('whose method returns nothing is done, and the log says so', async () => {
    const { stream, notes } = setUp();
    const source = stream.attach(
      { stream: (() => undefined) as unknown as Source<number>['stream'] },
      { name: 'Forgetful' },
    );
    await source.finished;
    expect(source.status).toMatchObject({ state: 'done', failures: 0 });
    expect(notes).toEqual(["source Forgetful of 's' is done, after 0 messages: its stream() has ended"]);
  });

  it.each([
    ['nothing', undefined],
    ['null', null],
    ['a number', 5],
    ['a class', Numbers],
    ['an object without the method', { streams: () => undefined }],
    ['an array', []],
  ])('is refused where it is %s', (_, source) => {
    const { stream } = setUp();
    expect(() => stream.attach(source as unknown as Source<number>)).toThrow(
      expect.objectContaining({
        code: ErrorCode.InvalidOptions,
        message: expect.stringContaining('stream(target, signal)'),
      }),
    );
  });

  it.each([null, 5, { names: 'x' }])('is refused with options %j', (options) => {
    const { stream } = setUp();
    expect(() => stream.attach(new Numbers(1), options as never)).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions }),
    );
  });
});
