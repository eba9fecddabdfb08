import { describe, expect, it } from 'vitest';
import { AggregateContent } from './aggregate-content.js';
import type { Aggregate, Untyped } from './aggregates.js';
import { type Chunk, CollectContent, partsOf } from './collect-content.js';
import { HoppingWindows } from './hopping.js';
import { itemOf } from './machine.spec.support.js';
import { paneGrid } from './pane-grid.js';
import { SessionWindows } from './sessions.js';
import { TumblingWindows } from './tumbling.js';
import type { FiredWindow, Row, StateView, Step, TimedItem, WindowLogic } from './window-logic.js';

/** Rows that are kept as they are put. */
class Rows implements StateView {
  readonly rows = new Map<string, Row>();

  get = (slot: string) => this.rows.get(slot)?.value;
  remove = (slot: string) => void this.rows.delete(slot);
  put(slot: string, value: unknown, due?: number): void {
    this.rows.set(slot, { slot, value: structuredClone(value), due });
  }
}

/** Text in order of reading. Changes half of its accumulator before it throws. */
const texts: Aggregate<{ text: string }, { text: string; n: number }, string> = {
  init: () => ({ text: '', n: 0 }),
  add(acc, { text }) {
    acc.text += text;
    if (text === 'bad') throw new Error('I do not like it');
    acc.n += 1;
  },
  merge(into, from) {
    into.text += from.text;
    if (into.text.includes('xy')) throw new Error('they do not go together');
    into.n += from.n;
  },
  result: ({ text, n }) => {
    if (text === 'no result') throw new Error('there is none');
    return `${text}:${n}`;
  },
};

function limited(most = 1_000): AggregateContent {
  const sizeOf = (value: unknown) => {
    const { text } = value as { text: string };
    if (text.includes('unstorable')) throw new Error('can not be stored');
    return text.length;
  };
  return new AggregateContent(texts as unknown as Untyped, {
    most,
    sizeOf,
    tooLarge: (bytes) => new Error(`${bytes} bytes`),
  });
}

const item = (time: number, text: string, mark = -Infinity): TimedItem => {
  const made = itemOf({ id: `${text}@${time}`, key: 'k', time });
  return { ...made, data: { text }, mark };
};
const grid = (interval: number, every = interval) => paneGrid({ interval, every, offset: 0 });
const strict = { lateness: 0, lateWindows: false };
const sessionRules = { ...strict, gap: 5, longest: 100, leading: false };

function step(state: StateView, mark = 0, number = 1): Step {
  return { state, mark, number };
}

/** What all windows hold in the end, and what failed. */
function outcome(logic: WindowLogic, ...batches: readonly (readonly TimedItem[])[]) {
  const state = new Rows();
  const failed: string[] = [];
  for (const [number, items] of batches.entries()) {
    const taken = logic.take(items, step(state, 0, number));
    failed.push(...taken.failed.map(({ item: { id }, error }) => `${id}: ${(error as Error).message}`));
  }
  const due = [...state.rows.values()].filter((row) => row.due !== undefined);
  const fired = logic.fire(due, step(state, 1_000, batches.length));
  return { windows: fired.map((each) => (each.failed ? (each.failed as Error).message : each.value)), failed };
}

const LOGICS = {
  tumbling: (content: AggregateContent) => new TumblingWindows(content, grid(100), strict),
  hopping: (content: AggregateContent) => new HoppingWindows(content, grid(100, 100), { ...strict, empty: false }),
  session: (content: AggregateContent) => new SessionWindows(content, sessionRules),
};

describe.each(Object.entries(LOGICS))('an add that throws, in a %s window', (_name, make) => {
  it('leaves no trace of its message, and the rest goes on', () => {
    const items = [item(1, 'a'), item(2, 'bad'), item(3, 'b'), item(3, 'bad'), item(4, 'c')];
    const expected = { windows: ['abc:3'], failed: ['bad@2: I do not like it', 'bad@3: I do not like it'] };
    expect(outcome(make(limited()), items)).toEqual(expected);
    expect(outcome(make(limited()), ...items.map((each) => [each]))).toEqual(expected);
  });

  it('makes no window of its own', () => {
    expect(outcome(make(limited()), [item(1, 'bad')])).toEqual({ windows: [], failed: ['bad@1: I do not like it'] });
  });

  it('is the same as one that makes the accumulator too large', () => {
    const items = [item(1, 'aaaa'), item(2, 'bbbbbb'), item(3, 'cc')];
    const expected = { windows: ['aaaacc:2'], failed: ['bbbbbb@2: 10 bytes'] };
    expect(outcome(make(limited(8)), items)).toEqual(expected);
    expect(outcome(make(limited(8)), ...items.map((each) => [each]))).toEqual(expected);
    expect(outcome(make(limited(8)), [item(1, 'x'.repeat(9))])).toEqual({
      windows: [],
      failed: ['xxxxxxxxx@1: 9 bytes'],
    });
  });

  it('is the same as one that makes something that can not be stored', () => {
    expect(outcome(make(limited()), [item(1, 'a'), item(2, 'unstorable'), item(3, 'b')])).toEqual({
      windows: ['ab:2'],
      failed: ['unstorable@2: can not be stored'],
    });
  });

  it('a result that throws holds up no other', () => {
    const items = [item(1, 'no result'), item(201, 'a')];
    expect(outcome(make(limited()), items)).toEqual({ windows: ['there is none', 'a:1'], failed: [] });
  });
});

describe('a merge that throws', () => {
  it('of sessions blames the message that connects them', () => {
    const items = [item(1, 'x'), item(9, 'y'), item(5, 'c'), item(13, 'd')];
    const expected = { windows: ['x:1', 'yd:2'], failed: ['c@5: they do not go together'] };
    expect(outcome(new SessionWindows(limited(), sessionRules), items)).toEqual(expected);
  });

  it('of panes is a failed window, and holds up no other', () => {
    const logic = new HoppingWindows(limited(), grid(20, 10), { ...strict, empty: false });
    expect(outcome(logic, [item(1, 'x'), item(11, 'y'), item(51, 'z')])).toEqual({
      windows: ['x:1', 'they do not go together', 'y:1', 'z:1', 'z:1'],
      failed: [],
    });
  });

  it('an item that is too large is not even in the bounds of a session', () => {
    const logic = new SessionWindows(limited(4), sessionRules);
    const state = new Rows();
    const { failed } = logic.take([item(1, 'a'), item(4, 'large'), item(6, 'b')], step(state));
    expect(failed.map(({ item: { id } }) => id)).toEqual(['large@4']);
    const fired = logic.fire([...state.rows.values()], step(state, 100, 2));
    expect(fired.map(({ start, end, value }) => [start, end, value])).toEqual([[1, 11, 'ab:2']]);
  });
});

describe('collected messages', () => {
  const logic = () => new TumblingWindows(new CollectContent(), grid(1_000), strict);
  const many = (count: number, bytes: number) =>
    Array.from({ length: count }, (_, n) => ({ ...item(n, 'a'), id: `m${n}`, bytes }));
  const chunks = ({ rows }: Rows) => [...rows.keys()].filter((slot) => slot.startsWith('c/'));

  function fire(state: Rows, window = logic()): FiredWindow | undefined {
    return window.fire(
      [...state.rows.values()].filter(({ due }) => due !== undefined),
      step(state, 1_000, 99),
    )[0];
  }

  it('are in the row of their window while they are few, and in rows of their own when it is fired', () => {
    const state = new Rows();
    logic().take(many(20, 50), step(state, 0, 1));
    expect([...state.rows.keys()]).toEqual(['w/0/=k']);
    const fired = fire(state);
    expect([...state.rows.keys()]).toEqual(['c/99/0']);
    expect(fired).toMatchObject({ content: { chunks: ['c/99/0'], count: 20, bytes: 1_000 }, release: ['c/99/0'] });
  });

  it('are in rows of their own once they are many or large', () => {
    for (const items of [many(33, 50), many(3, 4_000)]) {
      const state = new Rows();
      logic().take(items, step(state, 0, 1));
      expect(chunks(state)).toEqual(['c/1/0']);
    }
  });

  it('are in rows of no more than a thousand, and no more than a megabyte', () => {
    const state = new Rows();
    logic().take(many(2_500, 50), step(state, 0, 1));
    expect(chunks(state)).toEqual(['c/1/0', 'c/1/1', 'c/1/2']);
    logic().take(many(3, 600_000), step(state, 0, 2));
    expect(chunks(state)).toHaveLength(6);
    expect(chunks(state).map((slot) => (state.get(slot) as Chunk).messages.length)).toEqual([1000, 1000, 500, 1, 1, 1]);
  });

  it('are given in order of time, then id, in parts', () => {
    const state = new Rows();
    const items = [item(5, 'b'), item(5, 'a'), item(1, 'z'), item(9, 'c')];
    logic().take(items.slice(0, 2), step(state, 0, 1));
    logic().take(items.slice(2), step(state, 0, 2));
    const content = fire(state)?.content;
    const parts = (order: 'time' | 'append', maxSize: number, maxBytes = 1e6) =>
      partsOf(content ?? { chunks: [], count: 0, bytes: 0 }, order, { maxSize, maxBytes }, state.get).map((part) =>
        part.map(({ id }) => id),
      );
    expect(parts('time', 10)).toEqual([['z@1', 'a@5', 'b@5', 'c@9']]);
    expect(parts('append', 3)).toEqual([['b@5', 'a@5', 'z@1'], ['c@9']]);
    expect(parts('time', 10, 1)).toEqual([['z@1'], ['a@5'], ['b@5'], ['c@9']]);
  });

  it('keep their key and headers', () => {
    const state = new Rows();
    const made = item(5, 'b');
    logic().take([{ ...made, message: { ...made.message, key: 'own', headers: { a: 'b' } } }], step(state, 0, 1));
    const [message] = (state.get(fire(state)?.content?.chunks[0] ?? '') as Chunk).messages;
    expect(message).toEqual({
      ...{ id: 'b@5', time: 5, created: new Date(5), data: { text: 'b' }, bytes: 50 },
      ...{ key: 'own', headers: { a: 'b' } },
    });
  });
});
