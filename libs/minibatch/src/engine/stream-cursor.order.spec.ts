import { beforeEach, describe, expect, it } from 'vitest';
import type { Block, FetchLimits, MessageId, StoredMessage, StreamStore } from '../storage/stream-store.interface.js';
import { range } from './processes.spec.support.js';
import { STREAM } from './process.spec.support.js';
import { StreamCursor } from './stream-cursor.js';

const KEY = { stream: STREAM, group: 'default', partition: 0 };

/** Ids in order, some of which come in below others; says what it was asked for. */
class Ids {
  readonly ids = new Set<string>();
  readonly calls: string[] = [];
  bytes = 100;

  constructor(readonly totalOrder: boolean) {}

  add(...ids: readonly number[]): void {
    for (const id of ids) this.ids.add(String(id).padStart(5, '0'));
  }

  fetch(_key: unknown, after: MessageId | undefined, { messages }: FetchLimits): Promise<Block> {
    this.calls.push(`fetch ${messages} after ${Number(after ?? -1)}`);
    const found = this.between(after, undefined);
    return Promise.resolve({
      messages: found.slice(0, messages).map((id) => this.message(id)),
      full: found.length > messages,
    });
  }

  scan(_key: unknown, after: MessageId | undefined, until: MessageId | undefined, limit: number): Promise<MessageId[]> {
    this.calls.push(`scan after ${Number(after ?? -1)}${until === undefined ? '' : ` until ${Number(until)}`}`);
    return Promise.resolve(this.between(after, until).slice(0, limit));
  }

  load(_key: unknown, ids: readonly MessageId[]): Promise<StoredMessage[]> {
    this.calls.push(`load ${ids.map(Number).join()}`);
    return Promise.resolve(ids.map((id) => this.message(id)));
  }

  private between(after = '', until = '99999'): string[] {
    return [...this.ids].filter((id) => id > after && id <= until).toSorted();
  }

  private message(id: string): StoredMessage {
    return { id, bytes: this.bytes } as StoredMessage;
  }
}

describe('a cursor finds what comes in below it', () => {
  let store: Ids;
  let cursor: StreamCursor;
  let received: number[];

  function open(totalOrder: boolean, bytes = 1_000_000): void {
    store = new Ids(totalOrder);
    received = [];
    const owned = new Set<MessageId>();
    cursor = new StreamCursor(
      store as unknown as StreamStore,
      KEY,
      { messages: 10, bytes },
      {
        get ownedCount() {
          return owned.size;
        },
        owns: (id) => owned.has(id),
        receive: (messages) => {
          for (const { id } of messages) if (!owned.has(id)) received.push(Number(id));
          for (const { id } of messages) owned.add(id);
        },
        skipDamaged: () => undefined,
      },
    );
  }

  beforeEach(() => open(false));

  it('as soon as a block comes back short', async () => {
    store.add(...range(100, 115));
    expect(await cursor.next(10)).toBe(false);
    store.add(50);
    // The end of the backlog, but not of all that there is.
    expect(await cursor.next(10)).toBe(false);
    expect(received).toEqual(range(100, 115));
    expect(await cursor.next(10)).toBe(true);
    expect(received).toEqual([...range(100, 115), 50]);
    expect(store.calls).toEqual(['fetch 10 after -1', 'fetch 10 after 109', 'fetch 25 after -1']);
    store.add(60);
    expect(await cursor.next(10)).toBe(true);
    expect(received.at(-1)).toBe(60);
  });

  it('by its eighth block at the latest, and reads only what it has not', async () => {
    store.add(...range(1_000, 1_200));
    await cursor.next(10);
    store.add(7);
    for (let blocks = 0; blocks < 7; blocks += 1) await cursor.next(10);
    expect(received).not.toContain(7);
    expect(store.calls.filter((call) => !call.startsWith('fetch'))).toEqual([]);
    await cursor.next(10);
    expect(received.filter((id) => id < 1_000)).toEqual([7]);
    expect(store.calls.slice(-3)).toEqual(['scan after -1 until 1079', 'load 7', 'fetch 10 after 1079']);
    // And so on.
    store.add(8);
    for (let blocks = 0; blocks < 8; blocks += 1) await cursor.next(10);
    expect(received.filter((id) => id < 1_000)).toEqual([7, 8]);
  });

  it('counts its blocks anew when it begins again', async () => {
    store.add(...range(1_000, 1_090));
    for (let blocks = 0; blocks < 6; blocks += 1) await cursor.next(10);
    cursor.restart();
    for (let blocks = 0; blocks < 3; blocks += 1) await cursor.next(10);
    expect(store.calls.filter((call) => call.startsWith('scan'))).toEqual([]);
    expect(store.calls.at(6)).toBe('fetch 70 after -1');
  });

  it.each([true, false])('reads ids where it has most of the messages, with a total order: %s', async (totalOrder) => {
    open(totalOrder);
    store.add(...range(1_000, 1_101));
    while (!(await cursor.next(101)));
    store.calls.splice(0);
    store.add(...range(2_000, 2_015));
    cursor.restart();
    expect(await cursor.next(10)).toBe(false);
    expect(await cursor.next(10)).toBe(totalOrder);
    if (!totalOrder) expect(await cursor.next(10)).toBe(true);
    expect(received.slice(101)).toEqual(range(2_000, 2_015));
    expect(store.calls.slice(0, 3)).toEqual([
      'scan after -1',
      `load ${range(2_000, 2_010).join()}`,
      'fetch 10 after 2009',
    ]);
    if (!totalOrder) return;
    // It continues behind the last one that it has seen, also if it has seen no more than the id.
    cursor.restart();
    expect(await cursor.next(10)).toBe(true);
    store.add(3_000);
    expect(await cursor.next(10)).toBe(true);
    expect(store.calls.slice(-2)).toEqual(['scan after -1', 'fetch 10 after 2014']);
    expect(received.at(-1)).toBe(3_000);
  });

  it('reads at once as many as are read again with up to a hundred', async () => {
    store.add(...range(1_000, 1_100));
    while (!(await cursor.next(100)));
    store.calls.splice(0);
    cursor.restart();
    await cursor.next(10);
    expect(store.calls).toEqual(['fetch 110 after -1']);
  });

  it('passes over any number of ids that it has, and stops where it has as many others as it may', async () => {
    store.add(...range(10_000, 14_500));
    while (!(await cursor.next(Infinity)));
    store.add(...range(20_000, 20_003));
    store.calls.splice(0);
    cursor.restart();
    expect(await cursor.next(10)).toBe(true);
    expect(store.calls).toEqual(['scan after -1', 'scan after 11999', 'scan after 13999', 'load 20000,20001,20002']);
    store.add(1, 2, 3, 4, 5);
    store.calls.splice(0);
    cursor.restart();
    expect(await cursor.next(2)).toBe(false);
    expect(store.calls).toEqual(['scan after -1', 'load 1,2']);
    // As many as it may: the next page of ids can wait.
    store.calls.splice(0);
    cursor.restart();
    expect(await cursor.next(2)).toBe(false);
    store.add(6);
    cursor.restart();
    expect(await cursor.next(2)).toBe(false);
    expect(store.calls).toEqual(['scan after -1', 'load 3,4', 'scan after -1', 'load 5,6']);
    // Of the rest, and of what comes after all those that it has, no more than three together.
    store.add(7, 30_000, 30_001, 30_002);
    store.calls.splice(0);
    cursor.restart();
    expect(await cursor.next(3)).toBe(false);
    expect(store.calls.filter((call) => call.startsWith('load'))).toEqual(['load 7', 'load 30000,30001']);
  });

  it('reads no more messages by their ids than fit in, by what is known of their sizes', async () => {
    open(false, 1_000);
    store.bytes = 300;
    store.add(...range(1_000, 1_101));
    while (!(await cursor.next(Infinity)));
    store.add(...range(2_000, 2_010));
    store.calls.splice(0);
    cursor.restart();
    await cursor.next(10);
    expect(store.calls).toEqual(['scan after -1', 'load 2000,2001,2002']);
  });

  it('is at the start again after a restart, whichever order it was in', async () => {
    store.add(...range(1_000, 1_030));
    await cursor.next(10);
    cursor.restartByTime([{ to: new Date(5) }]);
    expect(cursor.isByTime).toBe(true);
    cursor.restart();
    expect(cursor.isByTime).toBe(false);
    await cursor.next(10);
    expect(store.calls).toEqual(['fetch 10 after -1', 'fetch 20 after -1']);
  });
});
