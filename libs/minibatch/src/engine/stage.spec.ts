import { describe, expect, it } from 'vitest';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { encodeMessage } from '../storage/encoded-message.js';
import type { StreamStore } from '../storage/stream-store.interface.js';
import type { StoreCall } from '../testing/wrapped-store.js';
import type { Window } from '../windows/window.js';
import type { StageChanges } from './engine.interface.js';
import { LEASE, Process, stop, STREAM, storeToInspect, turns } from './process.spec.support.js';

const KEY = { stream: STREAM, group: 'default', partition: 0 };
const OUT = 'out';
const values = {
  encode: (value: unknown) => Buffer.from(JSON.stringify(value)),
  decode: (bytes: Uint8Array) => JSON.parse(Buffer.from(bytes).toString()) as unknown,
};
type Run = (window: Window, changes: StageChanges) => void | Promise<void>;

/** Counts messages in the row `count`, and appends each with its number. */
const count: Run = async (window, changes) => {
  await changes.load(['count']);
  let n = (changes.get('count') as number | undefined) ?? 0;
  for (const { data } of window.messages) {
    n += 1;
    changes.append({ stream: OUT, data: `${String(data)}#${n}`, created: new Date(0) });
  }
  changes.put('count', n);
};

function stageOf(run: Run, cacheBytes = 1024) {
  return { size: 2, interval: 100, stage: { run, values, cacheBytes } };
}

describe('a stage', () => {
  const world = () => {
    const { database, plain, letters } = storeToInspect();
    const rows = async (...slots: string[]) =>
      Object.fromEntries(
        (await plain.readState(KEY, slots)).map(({ slot, value }) => [slot, values.decode(value)] as const),
      );
    const out = async () => {
      await plain.ensureStream(OUT);
      await plain.registerGroup({ stream: OUT, group: 'reader' });
      const reader = { stream: OUT, group: 'reader', partition: 0 };
      const { messages } = await plain.fetch(reader, undefined, { messages: 1000, bytes: 1e9 });
      return messages.map(({ data }) => data);
    };
    return { database, plain, letters, rows, out };
  };

  it('commits what it changes and appends together with its windows', async () => {
    const { database, rows, out } = world();
    const p = await new Process(database).consumer(stageOf(count)).start();
    await p.append('a', 'b', 'c');
    await p.advance(200);
    expect(await rows('count')).toEqual({ count: 3 });
    expect(await out()).toEqual(['a#1', 'b#2', 'c#3']);
    await stop(p);
  });

  it('wakes the consumers of the streams that it appends to', async () => {
    const { database } = world();
    const seen: unknown[] = [];
    const p = new Process(database).consumer(stageOf(count));
    p.engine.add({
      ...p.definition({ size: 1, handler: (window) => void seen.push(...window.data) }),
      key: { stream: OUT, group: 'reader', partition: 0 },
    });
    await p.start();
    await p.append('a', 'b');
    // No poll was due.
    expect(seen).toEqual(['a#1', 'b#2']);
    await stop(p);
  });

  it('sees what the window before has changed, whose commit is still on its way', async () => {
    const { database, rows, out } = world();
    const held: (() => void)[] = [];
    const reads: unknown[] = [];
    const p = new Process(database, {
      around: async (call) => {
        if (call.method === 'readState')
          reads.push(...(call.args as Parameters<Required<StreamStore>['readState']>)[1]);
        if (call.method === 'commit') await new Promise<void>((resolve) => held.push(resolve));
        return call.proceed();
      },
    });
    p.consumer(stageOf(count, 0));
    void p.start();
    await turns(() => p.started);
    await p.put('a', 'b', 'c', 'd', 'e', 'f');
    await turns(() => p.seen.length === 3, 200);
    await turns(() => held.length === 1, 200);
    for (let n = 0; n < 10; n += 1) {
      held.shift()?.();
      await turns(() => held.length > 0, 50);
    }
    expect(await rows('count')).toEqual({ count: 6 });
    expect(await out()).toEqual(['a#1', 'b#2', 'c#3', 'd#4', 'e#5', 'f#6']);
    // Without room for it, the row is read again once it has left memory, and never before.
    expect(reads).toEqual(['count']);
    await stop(p);
  });

  it('reads rows again for which there is no room in memory, and only those', async () => {
    const { database, rows } = world();
    const reads: string[] = [];
    const around = (call: StoreCall) => {
      if (call.method === 'readState') reads.push(...(call.args as [unknown, string[]])[1]);
      return call.proceed();
    };
    const run: Run = async (window, changes) => {
      const slots = window.data.map(String);
      await changes.load(slots);
      for (const slot of slots) changes.put(slot, ((changes.get(slot) as number | undefined) ?? 0) + 1);
    };
    // Three rows of 64 + 1 + 1 bytes.
    const p = await new Process(database, { around }).consumer({ ...stageOf(run, 200), size: 1 }).start();
    for (const data of ['a', 'b', 'c', 'a', 'b', 'c']) await p.append(data);
    expect(reads).toEqual(['a', 'b', 'c']);
    await p.append('d');
    await p.append('b');
    await p.append('a');
    expect(reads).toEqual(['a', 'b', 'c', 'd', 'a']);
    expect(await rows('a', 'b', 'c', 'd')).toEqual({ a: 3, b: 3, c: 2, d: 1 });
    await stop(p);
  });

  it('leaves nothing of an attempt that fails', async () => {
    const { database, rows, out } = world();
    let failures = 0;
    const p = new Process(database).consumer({
      ...stageOf(async (window, changes) => {
        await count(window, changes);
        changes.put('other', 1);
        if (failures < 8) {
          failures += 1;
          throw new Error('not now');
        }
        changes.remove('other');
      }),
      retry: { base: 10, max: 20, jitter: 0, attempts: 3 },
    });
    await p.start();
    await p.append('a', 'b');
    await p.advance(1_000);
    expect(failures).toBe(8);
    expect(await rows('count', 'other')).toEqual({ count: 2 });
    expect(await out()).toEqual(['a#1', 'b#2']);
    await stop(p);
  });

  it('makes dead letters of what it rejects, once, and keeps what it has made of the rest', async () => {
    const { database, rows, out, letters } = world();
    const p = new Process(database).consumer(
      stageOf(async (window, changes) => {
        for (const message of window.messages) if (message.data === 'bad') window.reject(message, new Error('no'));
        await changes.load(['count']);
        changes.put('count', ((changes.get('count') as number | undefined) ?? 0) + window.data.length);
        changes.append({ stream: OUT, data: 'done', created: new Date(0) });
      }),
    );
    await p.start();
    await p.append('good', 'bad');
    expect((await letters()).map(({ data, error }) => [data, error])).toEqual([['bad', 'no']]);
    expect(await rows('count')).toEqual({ count: 2 });
    expect(await out()).toEqual(['done']);
    await stop(p);
  });

  it('handles a window again that was not committed, with the rows of before', async () => {
    const { database, rows, out } = world();
    const first = new Process(database, {
      around: (call) => {
        if (call.method !== 'commit') return call.proceed();
        first.kill();
        return new Promise(() => undefined);
      },
    });
    first.consumer(stageOf(count));
    void first.start();
    await turns(() => first.started);
    await first.put('a', 'b');
    await turns(() => first.seen.length > 0, 200);
    expect(await rows('count')).toEqual({});
    const second = await new Process(database).consumer(stageOf(count)).start();
    await second.advance(2 * LEASE);
    expect(await rows('count')).toEqual({ count: 2 });
    expect(await out()).toEqual(['a#1', 'b#2']);
    await stop(second);
  });

  it('commits no more at a time than the store has room for', async () => {
    const { database, plain, rows } = world();
    const large: number[] = [];
    const p = new Process(database, {
      store: Object.assign(Object.create(plain) as typeof plain, { maxEffectBytes: 1_000 }),
      around: (call) => {
        if (call.method !== 'commit') return call.proceed();
        const { effects } = (call.args as Parameters<StreamStore['commit']>)[1];
        const put = [...(effects?.values() ?? [])].flatMap((each) => each.put ?? []);
        large.push(put.reduce((sum, { value }) => sum + value.length, 0));
        return call.proceed();
      },
    });
    const run: Run = async (window, changes) => {
      const slots = window.data.map(String);
      await changes.load(slots);
      for (const slot of slots) changes.put(slot, 'x'.repeat(300));
    };
    await p.consumer({ ...stageOf(run), size: 1 }).start();
    const slots = Array.from({ length: 9 }, (_, n) => `s${n}`);
    await p.append(...slots);
    expect(Object.keys(await rows(...slots))).toEqual(slots);
    expect(Math.max(...large)).toBeLessThanOrEqual(1_000);
    expect(large.reduce((sum, bytes) => sum + bytes, 0)).toBe(9 * 302);
    await stop(p);
  });

  it('counts names, keys and headers of messages for that, too', async () => {
    const { database, plain, out } = world();
    const large: number[] = [];
    const p = new Process(database, {
      store: Object.assign(Object.create(plain) as typeof plain, { maxEffectBytes: 2_000 }),
      around: (call) => {
        if (call.method !== 'commit') return call.proceed();
        const { effects } = (call.args as Parameters<StreamStore['commit']>)[1];
        const messages = [...(effects?.values() ?? [])].flatMap((each) => each.append ?? []);
        large.push(messages.reduce((sum, message) => sum + encodeMessage(message).length, 0));
        return call.proceed();
      },
    });
    const run: Run = (window, changes) => {
      for (const data of window.data)
        changes.append({
          stream: OUT,
          data,
          key: 'k'.repeat(300),
          headers: { h: 'v'.repeat(200) },
          created: new Date(0),
        });
    };
    await p.consumer({ ...stageOf(run), size: 1 }).start();
    const all = Array.from({ length: 9 }, (_, n) => `m${n}`);
    await p.append(...all);
    expect(await out()).toEqual(all);
    expect(Math.max(...large)).toBeLessThanOrEqual(2_000);
    await stop(p);
  });

  it('is tried again, and not taken apart, when processes end in it', async () => {
    const { database, letters, out } = world();
    const { clock } = new Process(database);
    for (let deaths = 0; deaths < 5; deaths += 1) {
      const dying: Process = new Process(database, { clock });
      dying.consumer(
        stageOf(() => {
          dying.kill();
          return new Promise(() => undefined);
        }),
      );
      await dying.engine.start();
      if (deaths === 0) await dying.store.append([{ stream: STREAM, data: 'a', created: new Date(clock.now()) }]);
      await clock.advance(2 * LEASE, () => turns(() => false, 60));
    }
    const p = await new Process(database, { clock }).consumer(stageOf(count)).start();
    await p.advance(2 * LEASE);
    expect(await letters()).toEqual([]);
    expect(await out()).toEqual(['a#1']);
    await stop(p);
  });

  it('handles all of a window that another handler of its group has left half done', async () => {
    const { database, plain, out } = world();
    await plain.ensureStream(STREAM);
    await plain.registerGroup({ stream: STREAM, group: 'default' });
    await plain.append(['a', 'b', 'c'].map((data) => ({ stream: STREAM, data, created: new Date(0) })));
    const owner = { id: 'before', host: 'h', bootId: 'b', pid: 1, startTime: '1' };
    const lease = await plain.acquireLease(KEY, owner, { fence: 0, counter: 0 });
    if (!lease) throw new Error('no lease');
    await plain.recover(lease);
    const { messages } = await plain.fetch(KEY, undefined, { messages: 10, bytes: 1e6 });
    const split = { pending: [{ from: 1, to: 2 }], alone: [{ from: 2, to: 3 }], again: [], last: false };
    const messageIds = messages.map(({ id }) => id);
    const record = { seq: 1, id: 'w', messageIds, created: new Date(0), attempt: 5, recoveries: 0, split };
    await plain.claim(lease, [record]);
    await plain.releaseLease(lease);
    const p = await new Process(database).consumer(stageOf(count)).start();
    await p.advance(LEASE);
    expect(await out()).toEqual(['a#1', 'b#2', 'c#3']);
    await stop(p);
  });

  it("reports a store that can't be read, and goes on when it can", async () => {
    const { database, rows } = world();
    let isAway = true;
    const p = new Process(database, {
      around: (call) => {
        if (call.method !== 'readState' || !isAway) return call.proceed();
        throw new MinibatchError(ErrorCode.StoreUnavailable, 'planted');
      },
    });
    p.consumer(stageOf(count));
    void p.start();
    await turns(() => p.started);
    await p.put('a', 'b');
    await turns(() => p.engine.status()[0]?.activity === 'unavailable', 200);
    expect(p.engine.status()[0]?.activity).toBe('unavailable');
    isAway = false;
    await p.advance(10_000);
    expect(await rows('count')).toEqual({ count: 2 });
    await stop(p);
  });

  it('finds due rows in the store, in windows in flight, and among its own changes', async () => {
    const { database } = world();
    const held: (() => void)[] = [];
    let holds = false;
    const p = new Process(database, {
      around: async (call) => {
        if (call.method === 'commit' && holds) await new Promise<void>((resolve) => held.push(resolve));
        return call.proceed();
      },
    });
    const found: unknown[] = [];
    const steps: ((changes: StageChanges) => Promise<void>)[] = [
      // In the store when the last one looks.
      async (changes) => {
        for (const slot of ['a', 'b', 'c', 'd', 'e']) changes.put(slot, 'stored', 10);
        changes.put('late', 'stored', 99);
        changes.put('never', 'stored');
      },
      // In flight.
      async (changes) => {
        changes.put('b', 'in flight', 5);
        changes.put('c', 'in flight', 50);
        changes.remove('d');
        changes.put('f', 'in flight', 10);
      },
      async (changes) => {
        changes.put('e', 'own', 1);
        changes.put('f', 'own', 60);
        changes.put('g', 'own', 10);
        found.push(await changes.due(20, 100), await changes.due(20, 2), await changes.nextDue());
        for (const { slot } of await changes.due(20, 100)) changes.remove(slot);
        found.push(await changes.due(20, 100), await changes.nextDue());
        for (const { slot } of await changes.due(200, 100)) changes.remove(slot);
        found.push(await changes.nextDue());
      },
    ];
    p.consumer({ ...stageOf((_window, changes) => steps.shift()?.(changes), 0), size: 1 });
    await p.start();
    await p.append('1');
    holds = true;
    await p.put('2', '3');
    await turns(() => found.length === 6, 300);
    const due = [
      { slot: 'e', value: 'own', due: 1 },
      { slot: 'b', value: 'in flight', due: 5 },
      { slot: 'a', value: 'stored', due: 10 },
      { slot: 'g', value: 'own', due: 10 },
    ];
    expect(found).toEqual([due, due.slice(0, 2), 1, [], 50, undefined]);
    holds = false;
    held.shift()?.();
    await stop(p);
  });

  it('is tried less and less often while it fails, without end', async () => {
    const { database } = world();
    const attempts: number[] = [];
    const p = new Process(database).consumer({
      ...stageOf(() => {
        attempts.push(p.clock.monotonic());
        throw new Error('not now');
      }),
      retry: { base: 1_000, max: 60_000, jitter: 0, attempts: 2 },
    });
    await p.start();
    await p.append('a');
    await p.advance(5 * 60_000);
    const waits = attempts.slice(1).map((time, index) => time - attempts[index]!);
    expect(waits).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
    await stop(p);
  });

  it('tells an attempt that it is through, and no other', async () => {
    const { database } = world();
    const through: number[] = [];
    let attempts = 0;
    const p = new Process(database).consumer({
      ...stageOf((_window, changes) => {
        attempts += 1;
        const attempt = attempts;
        changes.whenThrough(() => through.push(attempt));
        if (attempts < 3) throw new Error('not now');
      }),
      retry: { base: 10, max: 20, jitter: 0, attempts: 3 },
    });
    await p.start();
    await p.append('a', 'b');
    await p.advance(1_000);
    expect(through).toEqual([3]);
    await stop(p);
  });
});
