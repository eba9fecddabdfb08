import { describe, expect, it } from 'vitest';
import { AppendError, ErrorCode } from '../errors/minibatch.error.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { FakeStore, turn } from '../streams/fake-store.spec.support.js';
import { StreamHub } from '../streams/stream-hub.js';
import { defineStream } from './stream-ref.js';
import type { StreamOptions } from './stream-settings.js';

const DAY = 86_400_000;

function setUp() {
  const store = new FakeStore();
  const clock = new VirtualClock(1000);
  const retained: unknown[] = [];
  const listener = {
    wake: () => undefined,
    refresh: async () => undefined,
    retain: (stream: string, retention: unknown) => void retained.push([stream, retention]),
    declare: () => undefined,
  };
  const log = { log() {}, warn() {}, error() {} };
  const hub = new StreamHub({ store: store.port, clock, log, listener, retry: { base: 1000, max: 60_000, jitter: 0 } });
  const counts = () => store.calls.filter((call) => call.startsWith('count')).length;
  return { store, clock, hub, retained, counts };
}

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'stored',
    (error: AppendError) => `${error.code} ${error.stored}`,
  );
const FULL = `${ErrorCode.StreamFull} no`;

describe('defineStream', () => {
  it.each<[StreamOptions, unknown]>([
    [{ maxAge: '1 day' }, { buffered: DAY, kept: DAY, deadLetters: DAY }],
    [{ maxAge: 5_000 }, { buffered: 5_000, kept: 5_000, deadLetters: 5_000 }],
    [{ maxAge: { kept: '2d' } }, { kept: 2 * DAY }],
    [{ maxAge: {} }, {}],
  ])('reads the ages of %j', (options, maxAge) => {
    expect(defineStream('s', options).settings).toEqual({ maxAge, overflow: 'reject' });
  });

  it.each<[string, object]>([
    ['maxAge', { maxAge: 7 }],
    ['maxAge', { maxAge: 'a while' }],
    ['maxAge', { maxAge: null }],
    ['maxAge.kept', { maxAge: { kept: 0 } }],
    ['all', { maxAge: { all: '1 day' } }],
    ['maxBuffered', { maxBuffered: 0 }],
    ['maxBuffered', { maxBuffered: 1.5 }],
    ['overflow', { maxBuffered: 1, overflow: 'drop' }],
    ['overflow', { overflow: 'wait' }],
    ['maxage', { maxage: '1 day' }],
  ])('refuses nonsense: %s of %j', (option, options) => {
    expect(() => defineStream('s', options)).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions, message: expect.stringContaining(option) }),
    );
  });

  it('tells the engine what is to be removed, once', () => {
    const { hub, retained } = setUp();
    const Flights = defineStream('flights', { maxAge: '1 day' });
    hub.stream(Flights);
    hub.stream(Flights);
    hub.stream('flights');
    hub.stream(defineStream('flights'));
    hub.stream(defineStream('flights', { maxAge: DAY }));
    expect(retained).toEqual([['flights', { buffered: DAY, kept: DAY, deadLetters: DAY }]]);
    expect(() => hub.stream(defineStream('flights', { maxAge: '2 days' }))).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions }),
    );
  });
});

describe('maxBuffered', () => {
  it('refuses appends to a full stream, and counts at most once a second', async () => {
    const { store, clock, hub, counts } = setUp();
    const stream = hub.stream(defineStream<number>('s', { maxBuffered: 10 }));
    store.counted = 9;
    expect(await codeOf(stream.append(1))).toBe('stored');
    expect(await codeOf(stream.append(2))).toBe(FULL);
    expect(await codeOf(stream.append(3))).toBe(FULL);
    expect(counts()).toBe(1);
    store.counted = 3;
    expect(await codeOf(stream.append(4))).toBe(FULL);
    await clock.advance(1_000);
    expect(await codeOf(stream.append(5))).toBe('stored');
    expect(counts()).toBe(2);
    expect(store.written).toEqual([[1], [5]]);
  });

  it('lets in more than there is room for, rather than a part', async () => {
    const { store, hub } = setUp();
    const stream = hub.stream(defineStream<number>('s', { maxBuffered: 10 }));
    store.counted = 9;
    await stream.appendMany([1, 2, 3, 4]);
    expect(store.written).toEqual([[1, 2, 3, 4]]);
    expect(await codeOf(stream.append(5))).toBe(FULL);
  });

  it('lets appends wait for room, in their order, and dates them when they are let in', async () => {
    const { store, clock, hub } = setUp();
    const stream = hub.stream(defineStream<number>('s', { maxBuffered: 10, overflow: 'wait' }));
    store.counted = 10;
    const done: number[] = [];
    const appends = [1, 2, 3].map((n) => stream.append(n).then(() => done.push(n)));
    await clock.advance(5_000);
    expect(store.written).toEqual([]);
    store.counted = 9;
    await clock.advance(2_000);
    await Promise.all(appends);
    expect(done).toEqual([1, 2, 3]);
    expect(store.written.flat()).toEqual([1, 2, 3]);
    expect(store.writes[0]?.messages[0]?.created.getTime()).toBeGreaterThan(6_000);
  });

  it('holds sources back, whatever is said of others', async () => {
    const { store, clock, hub } = setUp();
    const stream = hub.stream(defineStream<number>('s', { maxBuffered: 10 }));
    store.counted = 10;
    const source = stream.attach({
      async *stream() {
        yield 1;
      },
    });
    await clock.advance(3_000);
    expect(source.status).toMatchObject({ state: 'running', appended: 0, failures: 0 });
    store.counted = 0;
    await clock.advance(2_000);
    await source.finished;
    expect(store.written).toEqual([[1]]);
  });

  it('lets nobody wait beyond the end', async () => {
    const { store, hub } = setUp();
    const stream = hub.stream(defineStream<number>('s', { maxBuffered: 1, overflow: 'wait' }));
    store.counted = 1;
    const waiting = codeOf(stream.append(1));
    await turn();
    await hub.close(1000);
    expect(await waiting).toBe(`${ErrorCode.ShuttingDown} no`);
  });

  it('does not matter to other streams, nor to those without a limit', async () => {
    const { store, hub, counts } = setUp();
    hub.stream(defineStream('full', { maxBuffered: 1 }));
    store.counted = 1;
    expect(await codeOf(hub.stream('other').append(1))).toBe('stored');
    expect(counts()).toBe(0);
  });
});

describe('Stream.clear', () => {
  it('goes by what is stored, and changes no time', async () => {
    const { store, hub } = setUp();
    const stream = hub.stream<number>('s');
    await stream.append(1);
    await stream.clear();
    await stream.append(2);
    expect(store.calls).toContain('update s {"clear":true}');
    expect(store.calls).toContain('expire s');
    expect(store.writes.map(({ messages }) => messages[0]?.created.getTime())).toEqual([1000, 1000]);
  });
});
