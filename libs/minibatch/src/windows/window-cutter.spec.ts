import { describe, expect, it } from 'vitest';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { CountWindow } from './count.window.js';
import { CONTEXT, Driver, message, T0, told } from './driver.spec.support.js';
import { MessageBuffer } from './message-buffer.js';
import type { Message } from './message.js';
import { WindowCutter } from './window-cutter.js';
import { type MessageView, type Selection, WindowEmitter } from './window-emitter.js';

interface Value {
  value: number;
}

/** Answers with what it is told to. */
class Scripted extends WindowEmitter {
  asked = 0;
  constructor(
    private readonly answer: (view: MessageView) => unknown,
    private readonly ready: (view: MessageView) => unknown = () => true,
  ) {
    super();
  }
  windowReady(view: MessageView): boolean {
    return this.ready(view) as boolean;
  }
  query(view: MessageView): Selection {
    this.asked += 1;
    return this.answer(view) as Selection;
  }
}

/** Python's example: only even values, sorted, ten at a time. */
class EvenTens extends WindowEmitter<Value> {
  private even(view: MessageView<Value>) {
    return view.messages.filter((m) => m.data.value % 2 === 0).sort((a, b) => a.data.value - b.data.value);
  }
  windowReady(view: MessageView<Value>): boolean {
    return this.even(view).length >= 10;
  }
  query(view: MessageView<Value>): readonly Message<Value>[] {
    return this.even(view).slice(0, 10);
  }
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => message(from + i));
const filled = (n: number) => {
  const buffer = new MessageBuffer();
  buffer.push(range(0, n));
  buffer.complete = true;
  return buffer;
};
const cutter = (emitter: WindowEmitter, maxSize = 10_000, maxBytes = Infinity) =>
  new WindowCutter(emitter, { maxSize, maxBytes }, CONTEXT);
const START = new Date(T0);
const END = new Date(T0 + 10_000);

describe('WindowCutter', () => {
  describe('a strategy with a state of its own', () => {
    class Recording extends Scripted {
      readonly calls: string[] = [];
      override observe(view: MessageView): void {
        this.calls.push(`observe ${view.length}`);
      }
      override windowReady(view: MessageView): boolean {
        this.calls.push('windowReady');
        return super.windowReady(view);
      }
      override query(view: MessageView): Selection {
        this.calls.push('query');
        return super.query(view);
      }
      override emitted({ take, end }: Selection): void {
        this.calls.push(`emitted ${take.length}${end ? ` until ${end.getTime() - T0}` : ''}`);
      }
    }

    it('observes before it is asked, and is told what it chose', () => {
      const made = new Recording(
        (view) => ({ take: view.take(3), end: END }),
        (view) => view.length > 2,
      );
      expect(cutter(made, 2).cut(filled(4), 10)).toHaveLength(2);
      expect(made.calls).toEqual([
        'observe 4',
        'windowReady',
        'query',
        'emitted 3 until 10000',
        'observe 1',
        'windowReady',
      ]);
    });

    it('observes also where the tail is emitted without asking whether it is ready', () => {
      const made = new Recording((view) => view.messages);
      const buffer = filled(2);
      buffer.flushing = true;
      cutter(made).cut(buffer, 1);
      expect(made.calls).toEqual(['observe 2', 'query', 'emitted 2']);
    });

    it('is told nothing where it chose nothing, or what it must not', () => {
      const nothing = new Recording(() => []);
      cutter(nothing).cut(filled(1), 10);
      const wrong = new Recording(() => [message(99)]);
      expect(() => cutter(wrong).cut(filled(1), 10)).toThrow(MinibatchError);
      for (const { calls } of [nothing, wrong]) expect(calls).toEqual(['observe 1', 'windowReady', 'query']);
    });

    it.each(['observe', 'emitted'] as const)('that throws in %s() loses no message', (method) => {
      const made = new Scripted((view) => view.messages);
      made[method] = () => {
        throw new Error('no');
      };
      const buffer = filled(2);
      expect(() => cutter(made).cut(buffer, 10)).toThrow(`threw in ${method}(): no`);
      expect(buffer.length).toBe(2);
    });
  });

  describe('limits', () => {
    const all = new Scripted((view) => view.messages);

    it('a selection that fits has no part number', () => {
      expect(cutter(all).cut(filled(4), 9).map(told)).toEqual([': 0 1 2 3']);
    });

    it('beyond maxSize it is emitted in parts', () => {
      expect(cutter(all, 3).cut(filled(7), 9).map(told)).toEqual(['part 0: 0 1 2', 'part 1: 3 4 5', 'part 2: 6']);
      expect(cutter(all, 3).cut(filled(6), 9)).toHaveLength(2);
    });

    it('beyond maxBytes too, and a huge message is alone', () => {
      const buffer = new MessageBuffer();
      buffer.push([message(1), message(2, { bytes: 5000 }), message(3), message(4), message(5)]);
      expect(cutter(all, 99, 200).cut(buffer, 9).map(told)).toEqual([
        'part 0: 1',
        'part 1: 2',
        'part 2: 3 4',
        'part 3: 5',
      ]);
      buffer.push([message(6, { bytes: 5000 })]);
      expect(cutter(all, 99, 200).cut(buffer, 9).map(told)).toEqual([': 6']);
    });

    it('stops asking at max, but what was chosen is all there', () => {
      const ones = new Scripted(
        (view) => view.take(1),
        (view) => view.length > 0,
      );
      const buffer = filled(5);
      expect(cutter(ones).cut(buffer, 2)).toHaveLength(2);
      expect([buffer.length, ones.asked]).toEqual([3, 2]);
      expect(cutter(all, 1).cut(buffer, 1)).toHaveLength(3);
      expect(cutter(all).cut(filled(1), 0)).toEqual([]);
    });

    it('numbers continue over selections that are continued, and only over those', () => {
      const bounds = { start: START, end: END };
      const script: Selection[] = [];
      const scripted = new Scripted(
        (view) => ({ ...script.shift(), take: view.messages }),
        () => script.length > 0,
      );
      const made = cutter(scripted, 2);
      const step = (n: number, selection: Omit<Selection, 'take'>) => {
        script.push({ ...selection, take: [] });
        return made.cut(filled(n), 9).map(({ bounds: { part } }) => part);
      };
      expect(step(3, { ...bounds, more: true })).toEqual([0, 1]);
      expect(step(1, { ...bounds, more: true })).toEqual([2]);
      expect(step(1, { ...bounds, more: false })).toEqual([3]);
      expect(step(1, { ...bounds })).toEqual([undefined]);
      expect(step(1, { ...bounds, more: true })).toEqual([0]);
      expect(step(1, { ...bounds, late: true })).toEqual([undefined]);
      expect(step(1, { ...bounds, more: true })).toEqual([0]);
      expect(step(1, { start: END })).toEqual([undefined]);
    });
  });

  describe('empty selections', () => {
    it('with bounds is an empty window', () => {
      const empty = new Scripted(() => ({ take: [], start: START, end: END }));
      const buffer = filled(0);
      const made = cutter(empty);
      expect(made.cut(buffer, 9)).toEqual([{ messages: [], bounds: { start: START, end: END }, dropped: false }]);
      expect(made.cut(buffer, 9)).toEqual([]);
    });

    it('with one bound alone is one, too', () => {
      for (const bounds of [{ start: START }, { end: END }]) {
        const [window, ...others] = cutter(new Scripted(() => ({ take: [], ...bounds }))).cut(filled(0), 9);
        expect(window).toStrictEqual({ messages: [], bounds, dropped: false });
        expect(others).toEqual([]);
      }
    });

    it('that ends a series is none', () => {
      const script: Selection[] = [];
      const scripted = new Scripted(
        (view) => ({ ...script.shift(), take: view.messages }),
        () => script.length > 0,
      );
      const made = cutter(scripted);
      const bounds = { start: START, end: END };
      script.push({ take: [], ...bounds, more: true });
      expect(made.cut(filled(1), 9)).toHaveLength(1);
      script.push({ take: [], ...bounds });
      expect(made.cut(filled(0), 9)).toEqual([]);
      const later = filled(0);
      later.now = T0;
      script.push({ take: [], ...bounds });
      expect(made.cut(later, 9)).toHaveLength(1);
    });

    it('without bounds is nothing: it is not asked again until something changes', () => {
      const nothing = new Scripted(() => []);
      const buffer = filled(3);
      const made = cutter(nothing);
      expect(made.cut(buffer, 9)).toEqual([]);
      expect(made.cut(buffer, 9)).toEqual([]);
      expect(nothing.asked).toBe(1);
      expect(made.passedOver).toBe(3);
      buffer.now += 1;
      made.cut(buffer, 9);
      expect(nothing.asked).toBe(2);
    });

    it('never end in a loop', () => {
      let at = T0;
      const endless = new Scripted(() => ({ take: [], start: new Date(at), end: new Date(++at) }));
      expect(cutter(endless).cut(filled(0), Infinity)).toHaveLength(1000);
      const same = new Scripted(() => ({ take: [], end: END }));
      expect(cutter(same).cut(filled(0), Infinity)).toHaveLength(1);
      const more = new Scripted(() => ({ take: [], end: END, more: true }));
      expect(cutter(more).cut(filled(0), Infinity)).toEqual([]);
    });
  });

  it('dropped messages are a window of their own, without a handler', () => {
    const odd = (m: Message) => (m.data as Value).value % 2 === 1;
    const dropping = new Scripted(
      (view) => ({ take: view.messages.filter((m) => !odd(m)).slice(0, 1), drop: view.messages.filter(odd) }),
      (view) => view.length > 0,
    );
    expect(cutter(dropping, 2).cut(filled(6), 9).map(told)).toEqual([
      ': 0',
      'dropped: 1 3',
      'dropped: 5',
      ': 2',
      ': 4',
    ]);
  });

  describe('a custom strategy', () => {
    it('emits only even values although there are 1,000 odd ones at the head', () => {
      const d = new Driver(new EvenTens());
      d.append(...Array.from({ length: 1000 }, (_, i) => ({ created: T0, value: 2 * i + 1 })));
      d.append(...Array.from({ length: 25 }, (_, i) => ({ created: T0, value: 100 - 2 * i })));
      expect(d.run(T0).map(told)).toEqual([': 52 54 56 58 60 62 64 66 68 70', ': 72 74 76 78 80 82 84 86 88 90']);
      // The odd ones, and the five largest even ones, which were read before the others.
      expect(d.cutter.passedOver).toBe(1005);
      expect(d.cutter.stalled).toBe(false);
      d.append(...Array.from({ length: 5 }, () => ({ created: T0, value: 2 })));
      expect(d.run(T0).map(told)).toEqual([': 2 2 2 2 2 92 94 96 98 100']);
    });

    it('that waits for more has passed nothing over, and is not stalled', () => {
      const emitter = new CountWindow();
      void emitter.init({ ...CONTEXT, size: 5 });
      const made = cutter(emitter as WindowEmitter);
      expect([made.stalled, made.passedOver]).toEqual([false, 0]);
      expect(made.cut(filled(3), 9)).toEqual([]);
      expect([made.stalled, made.passedOver]).toEqual([false, 0]);
      const nothing = new MessageBuffer();
      nothing.saturated = true;
      made.cut(nothing, 9);
      expect(made.stalled).toBe(false);
    });

    it('is stalled when nothing that it can take fits in any more', () => {
      const d = new Driver(new EvenTens(), { lookAhead: 100 });
      d.append(...Array.from({ length: 200 }, () => ({ created: T0, value: 1 })));
      expect(d.run(T0)).toEqual([]);
      expect([d.cutter.stalled, d.cutter.passedOver]).toEqual([true, 100]);
    });

    it('is asked for the tail without being ready', () => {
      const d = new Driver(new EvenTens());
      d.append(...[4, 1, 2].map((value) => ({ created: T0, value })));
      expect(d.run(T0)).toEqual([]);
      expect(d.flush().map(told)).toEqual([': 2 4']);
      expect(d.buffer.length).toBe(1);
    });

    it('may return copies: messages are known by their id', () => {
      const copies = new Scripted(
        (view) => view.messages.map((m) => ({ ...m, data: 'changed' })),
        (view) => view.length > 0,
      );
      expect(cutter(copies).cut(filled(2), 9).map(told)).toEqual([': 0 1']);
    });
  });

  describe('a strategy that breaks its contract', () => {
    const failure = (answer: (view: MessageView) => unknown, ready?: () => unknown) => {
      const buffer = filled(3);
      const made = cutter(new Scripted(answer, ready));
      try {
        made.cut(buffer, 9);
      } catch (error) {
        expect(buffer.length).toBe(3);
        expect(error).toBeInstanceOf(MinibatchError);
        expect(error).toMatchObject({
          code: ErrorCode.EmitterFailed,
          message: expect.stringMatching(/^Emitter Scripted of consumer "default" on stream "flights" /) as string,
          details: { emitter: 'Scripted', stream: 'flights', group: 'default' },
        });
        return error as MinibatchError;
      }
      throw new Error('it did not fail');
    };

    it.each([
      ['takes what it was not shown', () => [message(77)], 'not shown (id m00000077)'],
      ['takes nonsense', () => [undefined], 'not shown (id undefined)'],
      ['takes twice', (view: MessageView) => [...view.take(1), ...view.take(1)], 'twice'],
      [
        'takes and drops',
        (view: MessageView) => ({ take: view.take(1), drop: view.take(2) }),
        'both to take and to drop',
      ],
      ['answers with nothing', () => undefined, 'neither an array'],
      ['answers with a wrong shape', () => ({ take: 3 }), 'neither an array'],
      ['answers with a wrong drop', () => ({ take: [], drop: 3 }), 'neither an array'],
      ['answers with a promise', async () => [], 'promise from query()'],
      ['gives an invalid date', (view: MessageView) => ({ take: view.take(1), end: new Date(Number.NaN) }), 'end'],
      ['gives a number as date', (view: MessageView) => ({ take: view.take(1), start: 5 }), 'start'],
    ] as const)('%s', (_, answer, text) => {
      expect(failure(answer as (view: MessageView) => unknown).message).toContain(text);
    });

    it.each([
      ['not shown', () => [message(77)], { messageId: 'm00000077' }],
      ['taken twice', (view: MessageView) => [...view.take(1), ...view.take(1)], { messageId: 'm00000000' }],
      ['of no message', () => undefined, {}],
    ] as const)('has the id of the message in the details: %s', (_, answer, more) => {
      const { details } = failure(answer as (view: MessageView) => unknown);
      expect(details).toStrictEqual({ emitter: 'Scripted', stream: 'flights', group: 'default', ...more });
    });

    it('may leave out drop, and answer with an empty one', () => {
      const answers: unknown[] = [{ drop: undefined }, { drop: [] }, {}];
      const taking = new Scripted(
        (view) => ({ take: view.take(1), ...(answers.shift() as object) }),
        () => answers.length > 0,
      );
      expect(cutter(taking).cut(filled(3), 9).map(told)).toEqual([': 0', ': 1', ': 2']);
    });

    it('answers with null', () => {
      expect(failure(() => null).message).toContain('neither an array');
    });

    it('throws', () => {
      const cause = new Error('boom');
      const thrown = failure(() => {
        throw cause;
      });
      expect(thrown.cause).toBe(cause);
      expect(thrown.message).toContain('query(): boom');
      const asked = failure(
        () => [],
        () => {
          throw cause;
        },
      );
      expect(asked.message).toContain('windowReady(): boom');
    });

    it('is asked with a promise', () => {
      expect(
        failure(
          () => [],
          async () => false,
        ).message,
      ).toContain('promise from windowReady()');
    });

    it('loses no window that it made before', () => {
      let calls = 0;
      const once = new Scripted((view) => {
        calls += 1;
        if (calls === 2) throw new Error('boom');
        return view.take(1);
      });
      const buffer = filled(3);
      const made = cutter(once);
      expect(made.cut(buffer, 9).map(told)).toEqual([': 0']);
      expect(() => made.cut(buffer, 9)).toThrow('boom');
      expect(made.cut(buffer, 2).map(told)).toEqual([': 1', ': 2']);
    });
  });

  it('cutting a message costs the same however many there are', () => {
    const emitter = new CountWindow();
    void emitter.init({ ...CONTEXT, size: 1 });
    const touched = (n: number) => {
      const buffer = filled(n);
      const source = buffer as unknown as { items: unknown[] };
      let reads = 0;
      source.items = new Proxy(source.items, {
        get(target, property, receiver) {
          if (typeof property === 'string' && /^\d+$/.test(property)) reads += 1;
          return Reflect.get(target, property, receiver) as unknown;
        },
      });
      // Below the length from which the array is compacted: each access counts.
      expect(cutter(emitter as WindowEmitter).cut(buffer, 500)).toHaveLength(500);
      return reads;
    };
    expect(touched(1000)).toBe(touched(600));
  });
});
