import { beforeEach, describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import { SystemClock } from '../common/clock.js';
import { MemoryStreamStore } from '../storage/memory/index.js';
import type { Lease, StoredMessage, StreamStore } from '../storage/stream-store.interface.js';
import { type StoreCall, wrapStore } from '../testing/wrapped-store.js';
import type { MessageFilter, StreamMessage } from './message-reading.js';
import { StreamHub } from './stream-hub.js';
import type { WindowFilter } from './window-reading.js';

const LOG = { log: () => undefined, warn: () => undefined, error: () => undefined };
const ALL = { messages: 100_000, bytes: Number.MAX_SAFE_INTEGER };
const OWNER = { id: 'a', host: '', bootId: '', pid: 1, startTime: '' };

let store: MemoryStreamStore;
beforeEach(() => {
  store = new MemoryStreamStore();
});

function streamOf(of: StreamStore = store) {
  return new StreamHub({ store: of, clock: new SystemClock(), log: LOG, retry: {} as never }).stream<unknown>('rows');
}

async function hold(group: string): Promise<Lease> {
  const key = { stream: 'rows', group, partition: 0 };
  await store.registerGroup(key);
  const [state] = await store.readLeases([key]);
  return (await store.acquireLease(key, OWNER, state!))!;
}

const append = (...data: unknown[]) =>
  store.append(data.map((each) => ({ stream: 'rows', data: each, created: new Date(0) })));

/** Claims these messages of the group; `commit` finishes the window, `settle` takes it away. */
async function claim(lease: Lease, seq: number, data: readonly unknown[]) {
  const { messages } = await store.fetch(lease.key, undefined, ALL);
  const chosen = messages.filter((message) => data.includes(message.data));
  const messageIds = chosen.map(({ id }) => id);
  const window = { seq, id: `w${seq}`, messageIds, created: new Date(0), attempt: 1, recoveries: 0 };
  await store.claim(lease, [window]);
  const commit = () =>
    store.commit(lease, { finished: [seq], progress: { lastSeq: seq, windows: seq, messages: chosen.length } });
  const settle = async (keep: boolean) => {
    const groups = (await store.describeStream('rows'))!.groups;
    await store.settle(lease, [{ window, messages: chosen }], { groups, keep });
  };
  return {
    commit,
    settle,
    finish: async (keep: boolean) => {
      await commit();
      await settle(keep);
    },
  };
}

async function messages(filter?: MessageFilter, of: StreamStore = store): Promise<StreamMessage[]> {
  const found: StreamMessage[] = [];
  for await (const message of streamOf(of).messages(filter)) found.push(message);
  return found;
}

const shown = async (filter?: MessageFilter, of?: StreamStore) =>
  (await messages(filter, of)).map(({ data, state }) => `${String(data)} ${state}`);

async function windows(filter?: WindowFilter) {
  const found = [];
  for await (const window of streamOf().windows(filter)) found.push(window);
  return found;
}

describe('what lies in a stream', () => {
  it('is told by state, in the order of the ids', async () => {
    const lease = await hold('default');
    await append(0, 1, 2, 3, 4, 5);
    await (await claim(lease, 1, [1, 3])).finish(true);
    await claim(lease, 2, [0, 4]);
    expect(await shown()).toEqual(['0 claimed', '1 kept', '2 waiting', '3 kept', '4 claimed', '5 waiting']);
    expect(await shown({ state: 'waiting' })).toEqual(['2 waiting', '5 waiting']);
    expect(await shown({ state: 'claimed' })).toEqual(['0 claimed', '4 claimed']);
    expect(await shown({ state: 'kept' })).toEqual(['1 kept', '3 kept']);
    const [, , two] = await messages();
    expect(two).toEqual({
      id: two!.id,
      data: 2,
      created: new Date(0),
      state: 'waiting',
      bytes: expect.any(Number) as number,
    });
    expect(await shown({ after: two!.id })).toEqual(['3 kept', '4 claimed', '5 waiting']);
    expect(await shown({ after: two!.id, state: 'kept' })).toEqual(['3 kept']);
    expect(await shown({ after: two!.id, state: 'claimed', group: 'default' })).toEqual(['4 claimed']);
  });

  it('is told for one group, or for all of them together', async () => {
    const [a, b] = [await hold('a'), await hold('b')];
    await append(0, 1, 2, 3);
    await (await claim(a, 1, [0, 1])).finish(false);
    await claim(a, 2, [3]);
    await (await claim(b, 1, [1])).finish(false);
    await claim(b, 2, [0]);
    expect(await shown({ group: 'a' })).toEqual(['2 waiting', '3 claimed']);
    expect(await shown({ group: 'b' })).toEqual(['0 claimed', '2 waiting', '3 waiting']);
    expect(await shown()).toEqual(['0 claimed', '2 waiting', '3 claimed']);
    expect(await shown({ state: 'waiting' })).toEqual(['2 waiting']);
  });

  it('of a stream without groups waits', async () => {
    await append(0, 1);
    expect(await shown()).toEqual(['0 waiting', '1 waiting']);
    expect(await shown({ state: 'claimed' })).toEqual([]);
  });

  it('has nothing that the group has committed, or that was cleared', async () => {
    const lease = await hold('default');
    await append(0, 1, 2);
    await claim(lease, 1, [0]);
    const second = await claim(lease, 2, [1]);
    await second.commit();
    expect(await shown()).toEqual(['0 claimed', '2 waiting']);
    await store.updateStream('rows', { clear: true });
    await append(3);
    expect(await shown()).toEqual(['0 claimed', '3 waiting']);
    await second.settle(false);
    expect(await shown()).toEqual(['0 claimed', '3 waiting']);
  });

  it('is nothing for a stream that is not there', async () => {
    expect([await messages(), await windows()]).toEqual([[], []]);
    expect(await store.describeStream('rows')).toBeUndefined();
  });

  it('is read page by page, bounded in bytes, each message once, whatever the groups have committed', async () => {
    const asked: number[] = [];
    let largest = 0;
    const watched = wrapStore(store, async (call) => {
      const answer = await call.proceed();
      if (call.method === 'fetch' || call.method === 'readKept') {
        const limits = call.args[2] as { bytes: number };
        asked.push(limits.bytes);
        const block = answer as { messages: readonly StoredMessage[] };
        largest = Math.max(
          largest,
          block.messages.reduce((sum, { bytes }) => sum + bytes, 0),
        );
      }
      return answer;
    });
    const [a, b] = [await hold('a'), await hold('b')];
    const rows = Array.from({ length: 5_000 }, (_, n) => n);
    const large = Array.from({ length: 40 }, (_, n) => `${n}:${'x'.repeat(400_000)}`);
    await append(...rows.slice(0, 2_500), ...large, ...rows.slice(2_500));
    for (const lease of [a, b]) await (await claim(lease, 1, rows.slice(100, 1_600))).finish(true);
    await (await claim(a, 2, rows.slice(0, 50))).finish(false);
    const found = await messages(undefined, watched);
    expect(found.map(({ data }) => (typeof data === 'string' ? data.slice(0, 3) : data))).toEqual([
      ...rows.slice(0, 2_500),
      ...large.map((text) => text.slice(0, 3)),
      ...rows.slice(2_500),
    ]);
    expect(found.filter(({ state }) => state === 'kept')).toHaveLength(1_500);
    expect(Math.max(...asked)).toBeLessThanOrEqual(4 * 1024 * 1024);
    expect(largest).toBeLessThan(5 * 1024 * 1024);
  });

  it('has a message that is committed and kept while it is read once', async () => {
    const lease = await hold('default');
    await append(...Array.from({ length: 1_500 }, (_, n) => n));
    const all = Array.from({ length: 1_500 }, (_, n) => n);
    let seq = 0;
    // Between any two reads a few more are committed.
    const busy = wrapStore(store, async (call) => {
      const answer = await call.proceed();
      if (['fetch', 'readKept', 'readWindows'].includes(call.method)) {
        seq += 1;
        await (await claim(lease, seq, [seq * 3, 900 + seq, 1_400 - seq])).finish(true);
      }
      return answer;
    });
    expect((await messages(undefined, busy)).map(({ data }) => data)).toEqual(all);
    expect(seq).toBeGreaterThan(5);
  });

  it('does not end with a message that can’t be decoded', async () => {
    await hold('default');
    await append(0, 1, 2);
    const damaged = wrapStore(store, async (call) => {
      const answer = await call.proceed();
      if (call.method !== 'fetch') return answer;
      const { messages: found } = answer as { messages: readonly StoredMessage[] };
      Object.defineProperty(found[1], 'read', {
        value: () => {
          throw new TypeError('invalid UTF-8');
        },
      });
      return answer;
    });
    const [zero, one, two] = await messages(undefined, damaged);
    expect([zero?.data, two?.data]).toEqual([0, 2]);
    expect(JSON.parse(JSON.stringify(one))).toEqual({
      id: one?.id,
      created: new Date(0).toISOString(),
      state: 'waiting',
      bytes: expect.any(Number) as number,
      undecodable: 'invalid UTF-8',
    });
    expect(() => one?.data).toThrow(expect.objectContaining({ code: ErrorCode.Undecodable }));
    expect({ ...zero }).not.toHaveProperty('undecodable');
  });
});

describe('windows of a stream', () => {
  it('are told by group and state', async () => {
    const [a, b] = [await hold('a'), await hold('b')];
    await append(0, 1, 2, 3, 4);
    await (await claim(a, 1, [0])).finish(true);
    await claim(a, 2, [1, 2]);
    await claim(b, 1, [0, 1, 2, 3]);
    await (await claim(a, 3, [4])).commit();
    const labels = async (filter?: WindowFilter) =>
      (await windows(filter)).map(({ group, state, id, messageIds }) => `${group} ${state} ${id} ${messageIds.length}`);
    expect(await labels()).toEqual(['a claimed w2 2', 'a kept w1 1', 'b claimed w1 4']);
    expect(await labels({ state: 'kept' })).toEqual(['a kept w1 1']);
    expect(await labels({ group: 'b' })).toEqual(['b claimed w1 4']);
    expect(await labels({ group: 'b', state: 'kept' })).toEqual([]);
    const [kept] = await windows({ state: 'kept' });
    expect(kept).toEqual({
      id: 'w1',
      group: 'a',
      state: 'kept',
      messageIds: [expect.any(String)],
      created: new Date(0),
      attempt: 1,
      recoveries: 0,
      committed: expect.any(Date) as Date,
    });
  });

  it('are read page by page', async () => {
    const lease = await hold('default');
    await append(...Array.from({ length: 350 }, (_, n) => n));
    for (let seq = 1; seq <= 350; seq += 1) await (await claim(lease, seq, [seq - 1])).finish(true);
    const limits: unknown[] = [];
    const watched = wrapStore(store, (call: StoreCall) => {
      if (call.method === 'readWindows') limits.push(call.args[3]);
      return call.proceed();
    });
    const found = [];
    for await (const { id } of streamOf(watched).windows()) found.push(id);
    expect(found).toEqual(Array.from({ length: 350 }, (_, n) => `w${n + 1}`));
    expect(new Set(limits)).toEqual(new Set([100]));
  });
});

describe('options of a look', () => {
  const first = async (call: () => AsyncGenerator<unknown>) => call().next();

  it.each<[string, unknown, RegExp]>([
    [
      'an unknown option',
      { status: 'kept' },
      /unknown option 'status'; did you mean 'state'\? Allowed: after, state, group/,
    ],
    ['an unknown state', { state: 'done' }, /state is 'done'; allowed: 'waiting', 'claimed', 'kept'/],
    ['what is no id', { after: 'yesterday' }, /after is 'yesterday'; allowed: the id of a message in the memory store/],
    ['an id that is no text', { after: 7 }, /after is 7/],
    ['a group without a name', { group: '' }, /group is ''/],
    ['no object', null, /options is null/],
  ])('refuses %s', async (_, filter, message) => {
    await hold('default');
    const error: unknown = await first(() => streamOf().messages(filter as never)).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: ErrorCode.InvalidOptions });
    expect(String(error)).toMatch(message);
  });

  it.each<[string, unknown, RegExp]>([
    ['an unknown option', { after: 'x' }, /unknown option 'after'; allowed: state, group/],
    ['a state that windows do not have', { state: 'waiting' }, /state is 'waiting'; allowed: 'claimed', 'kept'/],
  ])('refuses %s of windows', async (_, filter, message) => {
    await hold('default');
    const error: unknown = await first(() => streamOf().windows(filter as never)).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: ErrorCode.InvalidOptions });
    expect(String(error)).toMatch(message);
  });

  it('refuses a group that is not registered', async () => {
    await hold('default');
    for (const call of [() => streamOf().messages({ group: 'x' }), () => streamOf().windows({ group: 'x' })]) {
      await expect(first(call)).rejects.toMatchObject({ code: ErrorCode.UnknownGroup });
    }
  });

  it('says what a store of the application’s own lacks', async () => {
    await append(1);
    const without = (...methods: string[]) =>
      new Proxy(store, {
        get: (target, name) =>
          methods.includes(String(name)) ? undefined : (Reflect.get(target, name, target) as unknown),
      });
    const old = without('readKept', 'readWindows', 'idPattern');
    for (const call of [() => streamOf(old).messages(), () => streamOf(old).windows()]) {
      await expect(first(call)).rejects.toMatchObject({
        code: ErrorCode.StoreUnsupported,
        message: expect.stringContaining('Implement the method `readWindows` of StreamStore') as string,
      });
    }
    await expect(first(() => streamOf(old).messages({ state: 'kept' }))).rejects.toThrow(/readKept/);
    // What waits can be told without the kept ones.
    expect(await shown({ state: 'waiting' }, without('readKept', 'idPattern'))).toEqual(['1 waiting']);
  });
});

describe('options of a replay', () => {
  it.each<[string, unknown, string, RegExp]>([
    [
      'an unknown option',
      { before: new Date() },
      ErrorCode.InvalidOptions,
      /unknown option 'before'; allowed: group, from, to/,
    ],
    [
      'a time as text',
      { from: '2026-01-01' },
      ErrorCode.InvalidOptions,
      /from is '2026-01-01'; allowed: a valid Date, or the id/,
    ],
    ['no time', { to: new Date(Number.NaN) }, ErrorCode.InvalidOptions, /to is/],
    ['a number', { from: 5 }, ErrorCode.InvalidOptions, /from is 5/],
    [
      'an end before the start',
      { from: new Date(2), to: new Date(2) },
      ErrorCode.InvalidOptions,
      /to is .*behind `from`/,
    ],
    ['an unknown group', { group: 'x' }, ErrorCode.UnknownGroup, /no group 'x'/],
    ['no group where there is none of that name', {}, ErrorCode.UnknownGroup, /no group 'default'/],
  ])('refuses %s', async (_, options, code, message) => {
    await hold('report');
    const error: unknown = await streamOf()
      .replay(options as never)
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code });
    expect(String(error)).toMatch(message);
  });

  it('refuses a stream that is not there, and a store that can’t', async () => {
    await expect(streamOf().replay()).rejects.toMatchObject({ code: ErrorCode.UnknownStream });
    await hold('default');
    const old = new Proxy(store, {
      get: (target, name) => (name === 'replay' ? undefined : (Reflect.get(target, name, target) as unknown)),
    });
    await expect(streamOf(old).replay()).rejects.toMatchObject({
      code: ErrorCode.StoreUnsupported,
      message: expect.stringContaining('Implement the method `replay` of StreamStore') as string,
    });
  });

  it('takes times and ids together', async () => {
    const lease = await hold('default');
    await append(0, 1, 2, 3);
    await (await claim(lease, 1, [0, 1, 2, 3])).finish(true);
    const [, one, , three] = await messages();
    const replayed = await streamOf().replay({ from: one!.id, to: new Date(1) });
    expect(replayed).toBe(3);
    expect(await shown({ after: three!.id })).toEqual(['1 waiting', '2 waiting', '3 waiting']);
    expect(await streamOf().replay({ from: new Date(0), to: three!.id })).toBe(1);
  });
});
