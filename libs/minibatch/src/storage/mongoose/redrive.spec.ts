import { describe, expect, it } from 'vitest';
import { dataOf, keyOf, useStore, type TestStore } from '../../../../../test/support/mongoose-store.js';
import { Collections, collectionNames } from './collections.js';
import { DeadLetterReads } from './dead-letter-reads.js';
import { buryAll, consume } from './dead-letters.spec.support.js';
import { messageIds } from './message-ids.js';
import { Redrive } from './redrive.js';

/** Before and after each of: find the groups, copy, number the copies, show, remove the other copies, remove the letters. */
const POINTS = 12;
/** Those at which what has been read or written differs, in the order of the steps. */
const STOPS = [1, 2, 4, 5, 6, 8, 10];
/** All copies are numbered and looked at, none is shown. */
const UNSHOWN = 6;
/** Of a collection, or of the database: the copies are sent as a command. */
const WAITING = new Set(['findOne', 'command', 'bulkWrite', 'updateMany', 'deleteMany']);

/** Thousands of commands, one after another: a busy machine needs a minute for them. Milliseconds. */
const LONG = 240_000;

/** A redrive as of a process of its own, that can be stopped between any two commands and resume later, or never. */
class Stepped {
  passed = 0;
  readonly result: Promise<number>;
  private allowed = 0;
  private goOn = () => {};
  private stopped = () => {};

  constructor(test: TestStore, stream: string) {
    const collections = gated(new Collections(test.connection, collectionNames()), () => this.pass());
    this.result = new Redrive(collections, new DeadLetterReads(collections), messageIds).redrive(stream, {});
  }

  /** Runs until it stands at this point, or is through. */
  async to(point: number): Promise<void> {
    this.allowed = point;
    if (this.passed < point) {
      const stands = new Promise<void>((resolve) => (this.stopped = resolve));
      this.goOn();
      await Promise.race([stands, this.result]);
    }
  }

  finish(): Promise<number> {
    this.allowed = Number.POSITIVE_INFINITY;
    this.goOn();
    return this.result;
  }

  private async pass(): Promise<void> {
    while (this.passed >= this.allowed) {
      const free = new Promise<void>((resolve) => (this.goOn = resolve));
      this.stopped();
      await free;
    }
    this.passed += 1;
  }
}

function gated(collections: Collections, pass: () => Promise<void>): Collections {
  const gate = <T extends object>(native: T): T =>
    new Proxy(native, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name);
        if (name === 'db') return gate(value as object);
        if (typeof value !== 'function') return value;
        const method = value.bind(target) as (...given: unknown[]) => unknown;
        if (!WAITING.has(String(name))) return method;
        return async (...given: unknown[]) => {
          await pass();
          const result = await method(...given);
          await pass();
          return result;
        };
      },
    });
  return new Proxy(collections, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name);
      return value instanceof Object ? gate(value) : value;
    },
  });
}

describe('redrive', () => {
  const test = useStore();

  const count = (collection: string, stream: string) =>
    test.connection.collection(collection).countDocuments({ stream });

  /** What several redrives do in turn, with a consumer that looks in between; all of them get through in the end. */
  async function sleepers(
    stream: string,
    keep: boolean,
    turns: (runs: readonly [Stepped, Stepped, Stepped], look: () => Promise<void>) => Promise<void>,
  ): Promise<void> {
    const { store } = test;
    await buryAll(store, stream, [1, 2]);
    const seen: unknown[] = [];
    const look = async () => {
      for (const { data } of await consume(store, stream, 'default', { keep })) seen.push(data);
    };
    const runs = [new Stepped(test, stream), new Stepped(test, stream), new Stepped(test, stream)] as const;
    await turns(runs, look);
    let redriven = 0;
    for (const run of runs) {
      redriven += await run.finish();
      await look();
    }
    expect(seen.toSorted(), stream).toEqual([1, 2]);
    expect(redriven, stream).toBe(2);
    expect(await count('deadletter', stream), stream).toBe(0);
    expect(await count('buffer', stream), stream).toBe(keep ? 2 : 0);
  }

  it('can be stopped at every point', async () => {
    await buryAll(test.store, 'flights', [1]);
    const run = new Stepped(test, 'flights');
    expect(await run.finish()).toBe(1);
    expect(run.passed).toBe(POINTS);
  });

  it('neither loses nor doubles a message when it dies anywhere and is repeated', { timeout: LONG }, async () => {
    const { store } = test;
    for (let point = 0; point <= POINTS; point += 1) {
      for (const keep of [false, true]) {
        const stream = `died-${point}-${keep}`;
        await buryAll(store, stream, [1, 2]);
        const dead = new Stepped(test, stream);
        await dead.to(point);
        const seen = [...(await consume(store, stream, 'default', { keep }))];
        await store.redrive(stream, {});
        seen.push(...(await consume(store, stream, 'default', { keep })));
        await store.redrive(stream, {});
        seen.push(...(await consume(store, stream, 'default', { keep })));
        expect(
          seen.map(({ data }) => data),
          stream,
        ).toEqual([1, 2]);
        expect(await count('deadletter', stream), stream).toBe(0);
        expect(await count('buffer', stream), stream).toBe(keep ? 2 : 0);
      }
    }
  });

  it('neither loses nor doubles one when three do it, two of them with sleeps', { timeout: LONG }, async () => {
    for (const one of STOPS) {
      for (const two of STOPS) {
        await sleepers(`three-${one}-${two}`, two % 4 === 0, async ([a, b, c], look) => {
          await a.to(one);
          await look();
          await b.to(two);
          await look();
          await c.finish();
          await look();
          await a.finish();
        });
      }
    }
  });

  it('neither loses nor doubles one when two do it by turns', { timeout: LONG }, async () => {
    for (const [index, one] of STOPS.entries()) {
      for (const two of STOPS) {
        for (const three of STOPS.slice(index + 1)) {
          await sleepers(`turns-${one}-${two}-${three}`, two % 4 === 0, async ([a, b], look) => {
            await a.to(one);
            await b.to(two);
            await look();
            await a.to(three);
            await look();
            await b.finish();
            await look();
          });
        }
      }
    }
  });

  it('either brings back or removes what is discarded meanwhile, and leaves nothing behind', async () => {
    const { store } = test;
    for (let point = 0; point < POINTS; point += 1) {
      const stream = `discarded-${point}`;
      await buryAll(store, stream, [1]);
      const run = new Stepped(test, stream);
      await run.to(point);
      await store.discard(stream, {});
      await run.finish();
      expect(await dataOf(store, keyOf(stream)), stream).toEqual(point <= UNSHOWN ? [] : [1]);
      await consume(store, stream);
      expect(await count('buffer', stream), stream).toBe(0);
    }
  });

  it('of many at once gives each message once', async () => {
    const { store } = test;
    const numbers = Array.from({ length: 600 }, (_, i) => i);
    await buryAll(store, 'flights', numbers);
    const counts = await Promise.all(Array.from({ length: 4 }, () => store.redrive('flights', {})));
    expect(counts.reduce((sum, n) => sum + n, 0)).toBe(600);
    expect((await dataOf(store, keyOf('flights'))).toSorted((a, b) => Number(a) - Number(b))).toEqual(numbers);
  });

  it('does not go after messages that die again meanwhile', async () => {
    const { store } = test;
    await buryAll(
      store,
      'flights',
      Array.from({ length: 1100 }, (_, i) => i),
    );
    const run = new Stepped(test, 'flights');
    // The first page is back in the buffer, and dies again.
    await run.to(POINTS);
    const lease = await store.acquireLease(
      keyOf('flights'),
      { id: 'x', host: '', bootId: '', pid: 1, startTime: '' },
      (await store.readLeases([keyOf('flights')]))[0]!,
    );
    const { messages } = await store.fetch(keyOf('flights'), undefined, { messages: 10_000, bytes: 2 ** 30 });
    await store.bury(
      lease!,
      messages.map((message) => ({
        message,
        window: 'w',
        consumer: 'Report.run',
        attempts: 1,
        error: 'again',
        died: new Date(),
      })),
    );
    expect(await run.finish()).toBe(1100);
    expect(await count('deadletter', 'flights')).toBe(messages.length);
    expect(messages.length).toBeGreaterThan(400);
  });

  it('shows a hidden copy to nobody', async () => {
    const { store } = test;
    await buryAll(store, 'flights', [1]);
    const run = new Stepped(test, 'flights');
    await run.to(UNSHOWN);
    expect(await test.connection.collection('buffer').countDocuments({ processed: true })).toBe(1);
    expect(await dataOf(store, keyOf('flights'))).toEqual([]);
    expect((await store.stats())[0]).toMatchObject({ buffered: 0, deadLetters: 1 });
    const later = new Date(Date.now() + 60_000);
    expect(await store.sweep('flights', { kept: later, tombstones: later })).toEqual({
      tombstones: 0,
      messages: 0,
      windows: 0,
    });
    expect(await run.finish()).toBe(1);
    expect(await dataOf(store, keyOf('flights'))).toEqual([1]);
  });
});
