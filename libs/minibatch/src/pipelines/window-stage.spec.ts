import { describe, expect, it } from 'vitest';
import { BrokenText } from '../../../../test/support/hostile-values.js';
import type { Stage, StageChanges } from '../engine/engine.interface.js';
import { LEASE, Process, stop, STREAM, storeToInspect, turns } from '../engine/process.spec.support.js';
import { count } from '../flow/aggregates.js';
import { checkWindow } from '../flow/window-options.js';
import { logicOf, type WindowShape } from '../flow/window-shape.js';
import type { FiredWindow, Item } from '../flow/window-logic.js';
import { decodeValue, encodeValue } from '../storage/encoded-message.js';
import type { Message } from '../windows/message.js';
import type { Window } from '../windows/window.js';
import type { WindowWork } from './window-batch.js';
import { WindowStage } from './window-stage.js';

const OUT = 'out';
const KEY = { stream: STREAM, group: 'default', partition: 0 };
interface Event {
  readonly key: string;
  readonly at?: number;
}

function shapeOf(options: Readonly<Record<string, unknown>>): WindowShape {
  const { shape, problems } = checkWindow('Test', options, { late: 'deadLetter', merges: true });
  if (!shape) throw new Error(problems[0]?.message);
  return shape;
}

/** A stage that counts messages by key, and appends each result. */
function stageOf(options: Readonly<Record<string, unknown>>, batch = { size: 3, interval: 50 }) {
  const shape = shapeOf(options);
  const limit = {
    most: 1e6,
    sizeOf: (value: unknown) => encodeValue(value).length,
    tooLarge: () => new Error('large'),
  };
  const logic = logicOf(shape, { aggregate: count() as never, limit });
  const late: string[] = [];
  const itemOf = (message: Message): Item => {
    const { key, at } = message.data as Event;
    return { id: message.id, key, time: at ?? message.created.getTime(), data: message.data, message, bytes: 0 };
  };
  const make = () => new WindowStage({ logic, time: shape.time, shape: '', changed: (stored) => new Error(stored) });
  const work = (window: Window, changes: StageChanges): WindowWork => ({
    entries: () => window.messages.map(itemOf),
    fired: ({ key, start, end, value, partial }: FiredWindow) =>
      changes.append({
        stream: OUT,
        data: [key, start, end, value, ...(partial ? ['partial'] : [])],
        created: new Date(0),
      }),
    late: ({ item }) => void late.push(item.key),
    givesUp: () => false,
    rowTooLarge: (_item, bytes) => new Error(`${bytes} bytes`),
    failed: ({ error }) => {
      throw error;
    },
  });
  const consumer = {
    ...batch,
    emitter: make(),
    stage: {
      run: async (...[window, changes, strategy]: Parameters<Stage['run']>) => {
        await (strategy as WindowStage).run(window, changes, work(window, changes));
      },
      values: { encode: encodeValue, decode: (bytes: Uint8Array) => decodeValue(Buffer.from(bytes)) },
      cacheBytes: 1_000,
    },
  };
  return { consumer, late };
}

describe('a stage with windows', () => {
  const world = () => {
    const { database, plain } = storeToInspect();
    const out = async () => {
      await plain.ensureStream(OUT);
      await plain.registerGroup({ stream: OUT, group: 'reader' });
      const { messages } = await plain.fetch({ stream: OUT, group: 'reader', partition: 0 }, undefined, {
        messages: 10_000,
        bytes: 1e9,
      });
      return messages.map(({ data }) => data);
    };
    const rows = async () =>
      (await plain.listState(KEY, undefined, { rows: 10_000, bytes: 1e9 })).rows.map(({ slot }) => slot);
    return { database, plain, out, rows };
  };

  it('gives out the windows that the times of later messages close', async () => {
    const { database, out, rows } = world();
    const { consumer, late } = stageOf({ interval: 100, time: 'at', idle: 'hold' });
    const p = await new Process(database).consumer(consumer).start();
    await p.append({ key: 'a', at: 10 }, { key: 'b', at: 20 }, { key: 'a', at: 99 });
    await p.advance(1_000);
    expect(await out()).toEqual([]);
    await p.append({ key: 'a', at: 100 }, { key: 'a', at: 50 });
    await p.advance(1_000);
    expect(await out()).toEqual([
      ['a', 0, 100, 2],
      ['b', 0, 100, 1],
    ]);
    expect(late).toEqual(['a']);
    expect((await rows()).length).toBe(2);
    await stop(p);
  });

  it('gives out windows by the clock when nothing comes', async () => {
    const { database, out, rows } = world();
    const { consumer } = stageOf({ interval: 1_000, grace: 100 });
    const p = new Process(database);
    const start = Math.ceil(p.clock.now() / 1_000) * 1_000;
    await p.consumer(consumer).start();
    await p.advance(start - p.clock.now() + 10);
    await p.append({ key: 'a' }, { key: 'b' });
    await p.advance(1_080);
    expect(await out()).toEqual([]);
    await p.advance(50);
    expect(await out()).toEqual([
      ['a', start, start + 1_000, 1],
      ['b', start, start + 1_000, 1],
    ]);
    // But for the watermark.
    expect(await rows()).toEqual(['m/']);
    await stop(p);
  });

  it('goes on with event time by the clock when nothing comes', async () => {
    const { database, out } = world();
    const { consumer } = stageOf({ interval: 1_000, time: 'at', wait: 200 });
    const p = await new Process(database).consumer(consumer).start();
    await p.append({ key: 'a', at: 300 });
    await p.advance(850);
    expect(await out()).toEqual([]);
    await p.advance(150);
    expect(await out()).toEqual([['a', 0, 1_000, 1]]);
    await stop(p);
  });

  it('costs nothing while nothing is due', async () => {
    const { database } = world();
    const calls: string[] = [];
    const { consumer } = stageOf({ gap: 3_600_000, time: 'at' });
    const p = new Process(database, {
      around: (call) => {
        calls.push(call.method);
        return call.proceed();
      },
    });
    await p.consumer(consumer).start();
    await p.append({ key: 'a', at: 1 });
    await p.advance(1_000);
    calls.length = 0;
    await p.advance(60_000);
    expect(
      calls.filter((method) => ['claim', 'commit', 'readState', 'dueState', 'listState'].includes(method)),
    ).toEqual([]);
    await stop(p);
  });

  it('gives out each window once, although processes end at every step', async () => {
    for (const method of ['claim', 'commit', 'settle', 'recover', 'dueState', 'readState'] as const) {
      for (const when of ['before', 'after'] as const) {
        const { database, out } = world();
        const { clock } = new Process(database);
        const { store } = new Process(database);
        const events = Array.from({ length: 20 }, (_, n) => ({ key: `k${n % 3}`, at: n * 40 }));
        await store.ensureStream(STREAM);
        await store.append(events.map((data) => ({ stream: STREAM, data, created: new Date(clock.now()) })));
        for (let deaths = 0; deaths < 4; deaths += 1) {
          let calls = 0;
          const dying: Process = new Process(database, {
            clock,
            around: async (call) => {
              if (call.method !== method || (calls += 1) <= deaths) return call.proceed();
              if (when === 'after') await call.proceed();
              dying.kill();
              return new Promise(() => undefined);
            },
          });
          dying.consumer(stageOf({ interval: 100, time: 'at', idle: 'hold' }).consumer);
          await Promise.race([dying.start(), turns(() => false, 100)]);
          await clock.advance(2 * LEASE, () => turns(() => false, 20));
        }
        const p = await new Process(database, { clock })
          .consumer(stageOf({ interval: 100, time: 'at', idle: 'hold' }).consumer)
          .start();
        await p.advance(2 * LEASE);
        const ended = [0, 100, 200, 300, 400, 500, 600].flatMap((start) => {
          const inside = events.filter(({ at }) => at >= start && at < start + 100);
          const keys = [...new Set(inside.map(({ key }) => key))].sort();
          return keys.map((key) => [key, start, start + 100, inside.filter((event) => event.key === key).length]);
        });
        expect(await out(), `${when} ${method}`).toEqual(ended);
        await stop(p);
      }
    }
  });

  it('fires more windows than one commit takes', async () => {
    const { database, out } = world();
    const { consumer } = stageOf({ interval: 100, time: 'at', idle: 'hold' }, { size: 1_000, interval: 50 });
    const p = await new Process(database).consumer(consumer).start();
    await p.append(...Array.from({ length: 4_500 }, (_, n) => ({ key: `k${n}`, at: 1 })));
    await p.advance(1_000);
    await p.append({ key: 'end', at: 100 });
    await p.advance(1_000);
    expect((await out()).length).toBe(4_500);
    await stop(p);
  });

  it('gives out what is open when its stream is flushed, and takes what follows for late', async () => {
    const { database, out } = world();
    const { consumer, late } = stageOf({ interval: 1_000, time: 'at', idle: 'hold' });
    const p = await new Process(database).consumer(consumer).start();
    await p.append({ key: 'a', at: 10 }, { key: 'b', at: 20 });
    await p.advance(100);
    await p.store.updateStream(STREAM, { flush: true });
    await p.engine.refresh(STREAM);
    await p.advance(100);
    expect(await out()).toEqual([
      ['a', 0, 1_000, 1, 'partial'],
      ['b', 0, 1_000, 1, 'partial'],
    ]);
    await p.append({ key: 'a', at: 30 });
    await p.advance(100);
    expect(late).toEqual(['a']);
    await stop(p);
  });

  it('flushes more windows than one commit takes, all of them as what they are', async () => {
    const { database, out } = world();
    const { consumer } = stageOf({ interval: 100, time: 'at', idle: 'hold' }, { size: 1_000, interval: 50 });
    const p = await new Process(database).consumer(consumer).start();
    await p.append(...Array.from({ length: 4_500 }, (_, n) => ({ key: `k${n}`, at: 1 })));
    await p.advance(1_000);
    await p.store.updateStream(STREAM, { flush: true });
    await p.engine.refresh(STREAM);
    await p.advance(1_000);
    const found = (await out()) as readonly unknown[][];
    expect(found.length).toBe(4_500);
    expect(found.filter(([, , , , partial]) => partial !== 'partial')).toEqual([]);
    await stop(p);
  });

  it('takes what comes in the middle of a long flush for late', async () => {
    const { database, plain, out } = world();
    const { consumer, late } = stageOf({ interval: 100, time: 'at', idle: 'hold' }, { size: 1_000, interval: 50 });
    let sent = 0;
    let isFlushing = false;
    const p = await new Process(database, {
      around: async (call) => {
        const result = await call.proceed();
        if (call.method === 'claim' && isFlushing && sent === 0) {
          sent += 1;
          await plain.append([{ stream: STREAM, data: { key: 'k0', at: 2 }, created: new Date(p.clock.now()) }]);
          p.engine.wake(STREAM);
        }
        return result;
      },
    })
      .consumer(consumer)
      .start();
    await p.append(...Array.from({ length: 4_500 }, (_, n) => ({ key: `k${n}`, at: 1 })));
    await p.advance(1_000);
    isFlushing = true;
    await p.store.updateStream(STREAM, { flush: true });
    await p.engine.refresh(STREAM);
    await p.advance(1_000);
    const found = (await out()) as readonly unknown[][];
    expect(sent).toBe(1);
    expect(late).toEqual(['k0']);
    expect(found.length).toBe(4_500);
    expect(new Set(found.map(([key]) => key)).size).toBe(4_500);
    await stop(p);
  });

  it('does not close a window over a message of another process that it has not read yet', async () => {
    const { database, plain, out } = world();
    const { consumer, late } = stageOf({ interval: 1_000, grace: 100 });
    const p = new Process(database);
    const start = Math.ceil(p.clock.now() / 1_000) * 1_000;
    await p.consumer(consumer).start();
    // The store is asked seldom by now.
    await p.advance(start - p.clock.now() + 60_010);
    const from = start + 60_000;
    await p.append({ key: 'a' });
    await p.advance(from + 1_099 - p.clock.now());
    await plain.append([{ stream: STREAM, data: { key: 'a' }, created: new Date(from + 999) }]);
    await p.advance(1);
    // A batch waits for further messages.
    await p.advance(100);
    expect([await out(), late]).toEqual([[['a', from, from + 1_000, 2]], []]);
    await stop(p);
  });

  it.each([
    ['processing time', { interval: 1_000, grace: 100 }],
    ['event time', { interval: 1_000, time: 'at', wait: 200 }],
  ])('does not take the time in which its stream is paused for quiet: %s', async (_, options) => {
    const { database, out } = world();
    const { consumer, late } = stageOf(options);
    const p = new Process(database);
    const start = Math.ceil(p.clock.now() / 1_000) * 1_000;
    await p.consumer(consumer).start();
    await p.advance(start - p.clock.now() + 10);
    await p.append({ key: 'a', at: start + 10 });
    await p.advance(100);
    await p.store.updateStream(STREAM, { paused: true });
    await p.engine.refresh(STREAM);
    await p.append({ key: 'a', at: start + 500 });
    await p.advance(60_000);
    expect(await out()).toEqual([]);
    await p.store.updateStream(STREAM, { paused: false });
    await p.engine.refresh(STREAM);
    await p.advance(2_000);
    expect([await out(), late]).toEqual([[['a', start, start + 1_000, 2]], []]);
    await stop(p);
  });

  it('goes on behind a batch whose last message, or all of it, can not be decoded', async () => {
    for (const data of [[{ key: 'a', at: 10 }, { x: new BrokenText() }], [{ x: new BrokenText() }]]) {
      const { database, out } = world();
      const { consumer } = stageOf({ interval: 1_000, time: 'at', wait: 200 });
      const p = await new Process(database).consumer(consumer).start();
      await p.append({ key: 'a', at: 5 });
      await p.advance(100);
      await p.append(...data);
      await p.advance(1_400);
      expect(await out()).toEqual([['a', 0, 1_000, data.length]]);
      await stop(p);
    }
  });

  it('gives out the rest of a flush as what it is, with messages in between and in the next process', async () => {
    const { database, plain, out } = world();
    const { clock } = new Process(database);
    const many = { size: 1_000, interval: 50 };
    let isFlushing = false;
    let claims = 0;
    const dying: Process = new Process(database, {
      clock,
      around: async (call) => {
        // Otherwise one commit gathers all parts.
        if (call.method === 'claim' && isFlushing && (claims += 1) === 2) return new Promise(() => undefined);
        const result = await call.proceed();
        if (call.method !== 'settle' || !isFlushing) return result;
        // The first part is given out: this one comes in the middle.
        await plain.append([{ stream: STREAM, data: { key: 'k0', at: 2 }, created: new Date(clock.now()) }]);
        dying.kill();
        return new Promise(() => undefined);
      },
    });
    await dying.consumer(stageOf({ interval: 100, time: 'at', idle: 'hold' }, many).consumer).start();
    await dying.append(...Array.from({ length: 4_500 }, (_, n) => ({ key: `k${n}`, at: 1 })));
    await dying.advance(1_000);
    isFlushing = true;
    await dying.store.updateStream(STREAM, { flush: true });
    await Promise.race([dying.engine.refresh(STREAM), turns(() => false, 100)]);
    await clock.advance(2 * LEASE, () => turns(() => false, 20));
    const { consumer, late } = stageOf({ interval: 100, time: 'at', idle: 'hold' }, many);
    const p = await new Process(database, { clock }).consumer(consumer).start();
    await p.advance(2 * LEASE);
    const found = (await out()) as readonly unknown[][];
    expect(late).toEqual(['k0']);
    expect(found.length).toBe(4_500);
    expect(found.filter(([, , , , partial]) => partial !== 'partial')).toEqual([]);
    await stop(p);
  });
});
