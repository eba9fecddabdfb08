import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import { CONTEXT, Driver, type DriverOptions, message, T0, told } from './driver.spec.support.js';
import { FixedTimeWindow } from './fixed-time.window.js';
import { MessageBuffer } from './message-buffer.js';
import { WindowCutter } from './window-cutter.js';
import { windowId } from './window-id.js';

const S = 1000;
const driver = (context: DriverOptions['context'] = {}, more: DriverOptions = {}) =>
  new Driver(new FixedTimeWindow(), { ...more, context: { interval: 10 * S, ...context } });

describe('FixedTimeWindow', () => {
  it('emits the messages created in each interval, in order, each in exactly one', () => {
    const d = driver();
    d.append(T0 + 12 * S, T0 + S, T0 + 25 * S, T0 + 9 * S);
    expect(d.advance(T0 + 40 * S).map(told)).toEqual(['[0,10): 2 4', '[10,20): 1', '[20,30): 3']);
    expect(d.stored).toEqual([]);
  });

  it('a message on a boundary belongs to the interval that begins there', () => {
    const d = driver();
    d.append(T0, T0 + 10 * S - 1, T0 + 10 * S, T0 + 20 * S);
    expect(d.advance(T0 + 40 * S).map(told)).toEqual(['[0,10): 1 2', '[10,20): 3', '[20,30): 4']);
  });

  it('closes by the clock at end + grace, not by the next message', () => {
    const d = driver();
    d.append(T0 + S);
    d.run(T0 + S);
    expect(d.advance(T0 + 11 * S - 1)).toEqual([]);
    expect(d.advance(T0 + 11 * S).map(told)).toEqual(['[0,10): 1']);
  });

  it('a message on its way at the end of its interval is in time within the grace', () => {
    const d = driver();
    d.append(T0 + S);
    d.advance(T0 + 10 * S + 500);
    d.append(T0 + 9 * S);
    expect(d.advance(T0 + 11 * S).map(told)).toEqual(['[0,10): 1 2']);
  });

  it('is aligned to the epoch plus the offset, which may be negative', () => {
    for (const [offset, bounds] of [
      [3 * S, '[3,13)'],
      [-3 * S, '[-3,7)'],
      [23 * S, '[3,13)'],
    ] as const) {
      const d = driver({ offset });
      d.append(T0 + 5 * S);
      expect(d.advance(T0 + 30 * S).map(told)).toEqual([`${bounds}: 1`]);
    }
    const before = driver({ now: -100 * S });
    before.append(-95 * S, -90 * S);
    expect(before.advance(-70 * S).map(({ bounds }) => bounds.start?.getTime())).toEqual([-100 * S, -90 * S]);
  });

  it('holds all messages of an interval, however many they are', () => {
    const d = driver();
    d.append(
      ...Array.from({ length: 100 }, () => T0 + S),
      ...Array.from({ length: 64 }, () => T0 + 11 * S),
      T0 + 25 * S,
    );
    const windows = d.advance(T0 + 31 * S);
    expect(windows.map(({ messages }) => messages.length)).toEqual([100, 64, 1]);
    expect(windows.map(({ bounds }) => bounds.late)).toEqual([undefined, undefined, undefined]);
  });

  it('at the first start of a consumer, what was appended before is not late', () => {
    const d = driver();
    d.append(T0 - 25 * S, T0 - 15 * S);
    expect(d.run(T0).map(told)).toEqual(['[-30,-20): 1', '[-20,-10): 2']);
  });

  it('asks to be woken when the next interval closes, also after one without messages', () => {
    const d = driver();
    d.run(T0 + 11 * S);
    expect(d.emitter.nextCheck(d.buffer as never)).toBe(T0 + 21 * S);
    d.append(T0 + 12 * S);
    d.run(T0 + 21 * S);
    expect(d.emitter.nextCheck(d.buffer as never)).toBe(T0 + 31 * S);
  });

  it('needs no time while it looks: it is asked again when more has been read', () => {
    const { emitter, buffer } = driver();
    emitter.reads(T0 + 11 * S);
    expect(emitter.nextCheck(buffer as never)).toBeUndefined();
  });

  it('reads only once an interval, and is idle in between', () => {
    const d = driver();
    d.advance(T0 + 10 * S);
    const { reads } = d;
    for (let at = 11; at <= 20; at += 1) {
      d.append(T0 + at * S);
      d.run(T0 + at * S);
    }
    expect(d.reads - reads).toBe(2);
    expect(d.emitter.reads(T0 + 20 * S)).toEqual({ order: 'idle', until: T0 + 21 * S });
  });

  describe('late messages', () => {
    it('are gathered for one interval and emitted together, with the bounds of theirs and another id', () => {
      const d = driver();
      d.append(T0 + S);
      const [main] = d.advance(T0 + 11 * S);
      for (const at of [12, 14, 16]) {
        d.append(T0 + 2 * S);
        expect(d.run(T0 + at * S)).toEqual([]);
      }
      d.append(T0 + 15 * S);
      const after = d.advance(T0 + 21 * S);
      expect(after.map(told)).toEqual(['[0,10) late: 2 3 4', '[10,20): 5']);
      const idOf = (window: typeof main) =>
        windowId('flights', 'default', 0, window?.messages.map(({ id }) => id) ?? [], window?.bounds ?? {});
      expect(idOf(after[0])).not.toBe(idOf(main));
      expect(after[0]?.bounds.start).toEqual(main?.bounds.start);
    });

    it('are known across a restart by the last end that was stored', () => {
      const d = driver({ lastEnd: new Date(T0 - 20 * S) });
      d.append(T0 - 25 * S, T0 - 15 * S);
      expect(d.run(T0).map(told)).toEqual(['[-30,-20) late: 1', '[-20,-10): 2']);
    });

    it('come in parts like others', () => {
      const d = driver({ lastEnd: new Date(T0) }, { block: 2, lookAhead: 2 });
      d.append(...Array.from({ length: 5 }, () => T0 - S));
      expect(d.run(T0 + 11 * S).map(told)).toEqual([
        '[-10,0) part 0 late: 1 2',
        '[-10,0) part 1 late: 3 4',
        '[-10,0) part 2 late: 5',
      ]);
    });
  });

  describe('messages from the future', () => {
    it('more than maxAhead ahead count as created on arrival', () => {
      const d = driver();
      d.run(T0 + S);
      d.append(T0 + S, T0 + 86_400 * S);
      expect(d.advance(T0 + 11 * S).map(told)).toEqual(['[0,10): 1 2']);
      d.append(T0 + 86_400 * S);
      expect(d.advance(T0 + 21 * S).map(told)).toEqual(['[10,20): 3']);
    });

    it('up to maxAhead ahead wait for their interval', () => {
      const d = driver({ maxAhead: 30 * S });
      d.run(T0 + S);
      d.append(T0 + 41 * S, T0 + 41 * S + 1);
      expect(d.advance(T0 + 11 * S).map(told)).toEqual(['[0,10): 2']);
      expect(d.advance(T0 + 51 * S - 1)).toEqual([]);
      expect(d.advance(T0 + 51 * S).map(told)).toEqual(['[40,50): 1']);
    });
  });

  describe('empty intervals', () => {
    it('emit nothing by default', () => {
      const d = driver();
      d.append(T0 + S, T0 + 95 * S);
      expect(d.run(T0 + 111 * S).map(told)).toEqual(['[0,10): 1', '[90,100): 2']);
    });

    it('are emitted in order when they are wanted', () => {
      const d = driver({ empty: true });
      d.append(T0 + 15 * S, T0 + 35 * S);
      const all = ['[0,10):', '[10,20): 1', '[20,30):', '[30,40): 2', '[40,50):'];
      expect(d.advance(T0 + 51 * S).map(told)).toEqual(all);
      const late = driver({ empty: true });
      late.append(T0 + 15 * S, T0 + 35 * S);
      expect(late.run(T0 + 51 * S).map(told)).toEqual(all);
    });

    it('are never emitted for time in which no process ran', () => {
      const d = driver({ empty: true, lastEnd: new Date(T0 - 3600 * S), now: T0 + 5 * S });
      d.append(T0 - 1815 * S);
      expect(d.run(T0 + 5 * S).map(told)).toEqual(['[-1820,-1810): 1']);
      expect(d.advance(T0 + 21 * S).map(told)).toEqual(['[0,10):', '[10,20):']);
    });

    it('a message for one that was emitted empty is late', () => {
      const d = driver({ empty: true });
      d.advance(T0 + 11 * S);
      d.append(T0 + S);
      expect(d.advance(T0 + 21 * S).map(told)).toEqual(['[0,10) late: 1', '[10,20):']);
    });

    it('a very long pause does not hold up everything at once', () => {
      const d = driver({ empty: true, interval: 1 * S, grace: 0 }, { max: 100_000 });
      expect(d.run(T0 + 5000 * S)).toHaveLength(5000);
    });
  });

  it('emits in parts what the buffer can not hold, none of it late', () => {
    const d = driver({}, { block: 2, lookAhead: 4 });
    d.append(...Array.from({ length: 10 }, () => T0 + S), T0 + 15 * S);
    expect(d.run(T0 + 21 * S).map(told)).toEqual([
      '[0,10) part 0: 1 2 3 4',
      '[0,10) part 1: 5 6 7 8',
      '[0,10) part 2: 9 10',
      '[10,20): 11',
    ]);
  });

  it('a pass keeps its bounds while the clock advances', () => {
    const d = driver({}, { max: 1 });
    d.append(T0 + S, T0 + 11 * S);
    expect(d.emitter.reads(T0 + 21 * S)).toEqual(d.emitter.reads(T0 + 35 * S));
    expect(d.run(T0 + 35 * S).map(told)).toEqual(['[0,10): 1', '[10,20): 2']);
  });

  it('after each pass it rests, even if the next is due: the reader starts anew', () => {
    const { emitter, buffer } = driver();
    const pass = (closed: number, now: number) => ({
      order: 'time',
      ranges: [{ to: T0 + closed * S }, { from: T0 + now * S + 60 * S + 1 }],
    });
    expect(emitter.reads(T0 + 11 * S)).toEqual(pass(10, 11));
    buffer.complete = true;
    emitter.observe(buffer as never);
    expect(emitter.windowReady(buffer as never)).toBe(false);
    expect(emitter.reads(T0 + 25 * S)).toEqual({ order: 'idle', until: T0 + 21 * S });
    expect(emitter.reads(T0 + 25 * S)).toEqual(pass(20, 25));
  });

  describe('a flush', () => {
    it('takes the open intervals too; what is created in them afterwards is late', () => {
      const d = driver();
      d.append(T0 + S, T0 + 12 * S, T0 + 25 * S);
      expect(d.flush(T0 + 13 * S).map(told)).toEqual(['[0,10): 1', '[10,20): 2', '[20,30): 3']);
      expect(d.flush(T0 + 14 * S)).toEqual([]);
      d.append(T0 + 15 * S, T0 + 31 * S);
      expect(d.advance(T0 + 50 * S).map(told)).toEqual(['[10,20) late: 4', '[30,40): 5']);
    });

    it('puts what is far in the future into the interval of now', () => {
      const d = driver();
      d.append(T0 + 86_400 * S);
      expect(d.flush(T0 + 13 * S).map(told)).toEqual(['[10,20): 1']);
      d.append(T0 + 86_400 * S);
      expect(d.flush(T0 + 23 * S).map(told)).toEqual(['[20,30): 2']);
    });

    it('is complete even when it has to read more than once', () => {
      const d = driver({}, { block: 2, lookAhead: 4 });
      d.append(...Array.from({ length: 9 }, (_, i) => T0 + i * 2 * S));
      d.flush(T0 + 18 * S);
      expect(d.stored).toEqual([]);
      expect(d.windows.filter(({ bounds }) => bounds.late)).toEqual([]);
    });

    it('keeps the order of empty intervals, and makes none behind the last message', () => {
      const d = driver({ empty: true });
      d.append(T0 + 25 * S);
      expect(d.flush(T0 + 26 * S).map(told)).toEqual(['[0,10):', '[10,20):', '[20,30): 1']);
      expect(d.advance(T0 + 41 * S).map(told)).toEqual(['[30,40):']);
    });
  });

  /** One window has been emitted, then the clock was set back by an hour, and a message came. */
  function setBack() {
    const d = driver();
    d.append(T0 + S);
    d.advance(T0 + 11 * S);
    const back = T0 - 3600 * S;
    d.append(back + S);
    d.run(back);
    return { d, back };
  }

  it('continues when the clock is set back by hours, and nothing is late', () => {
    const { d, back } = setBack();
    expect(d.advance(back + 11 * S).map(told)).toEqual(['[-3600,-3590): 2']);
  });

  it('has what comes late for an interval that was emitted after the clock was set back, too', () => {
    const { d, back } = setBack();
    d.advance(back + 11 * S);
    d.append(back + 2 * S);
    expect(d.advance(back + 21 * S).map(told)).toEqual(['[-3600,-3590) late: 3']);
  });

  it('does not believe an earlier process whose clock was ahead', () => {
    const d = driver({ lastEnd: new Date(T0 + 365 * 86_400 * S) });
    d.append(T0 + S);
    expect(d.advance(T0 + 11 * S).map(told)).toEqual(['[0,10): 1']);
    const open = driver({ lastEnd: new Date(T0 + 365 * 86_400 * S), now: T0 + 9.5 * S });
    open.append(T0 + S);
    expect(open.advance(T0 + 11 * S).map(told)).toEqual(['[0,10): 1']);
    const soon = driver({ lastEnd: new Date(T0 + 10 * S) });
    soon.append(T0 + S);
    expect(soon.advance(T0 + 11 * S).map(told)).toEqual(['[0,10) late: 1']);
  });

  it('does not call late what is flushed after its own clock was put right', () => {
    const d = driver();
    const ahead = T0 + 365 * 86_400 * S;
    d.append(ahead);
    expect(d.flush(ahead)).toHaveLength(1);
    d.append(T0 + S);
    expect(d.flush(T0 + 2 * S).map(told)).toEqual(['[0,10): 2']);
    d.append(T0 + S);
    expect(d.flush(T0 + 3 * S).map(told)).toEqual(['[0,10) late: 3']);
  });

  it('makes no empty windows for time that the clock leaps over', () => {
    const d = driver({ empty: true });
    expect(d.advance(T0 + 31 * S).map(told)).toEqual(['[0,10):', '[10,20):', '[20,30):']);
    d.jump(86_400 * S);
    expect(d.advance(T0 + (86_400 + 51) * S).map(told)).toEqual(['[86430,86440):', '[86440,86450):']);
    d.jump(-86_400 * S);
    d.run(T0 + 51 * S);
    expect(d.advance(T0 + 71 * S).map(told)).toEqual(['[50,60):', '[60,70):']);
  });

  it('a small step back does not look twice', () => {
    const d = driver();
    d.advance(T0 + 11 * S);
    const { reads } = d;
    d.run(T0 + 11 * S - 20);
    d.run(T0 + 12 * S);
    expect(d.reads).toBe(reads);
  });

  it('refuses to start without an interval', () => {
    expect(() => new FixedTimeWindow().init({ ...CONTEXT, interval: 33.3 })).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions }),
    );
  });

  it('continues its pass after a flush in the middle of it', () => {
    const emitter = new FixedTimeWindow();
    void emitter.init({ ...CONTEXT, interval: S, grace: 0, now: T0 });
    const buffer = new MessageBuffer();
    const cutter = new WindowCutter(emitter, { maxSize: 100, maxBytes: 1e6 });
    const pass = { order: 'time', ranges: [{ to: T0 + S }, {}] };
    expect(emitter.reads(T0 + 1_500)).toMatchObject(pass);
    buffer.now = T0 + 1_500;
    buffer.flushing = true;
    expect(emitter.reads(T0 + 1_500, true)).toEqual({ order: 'time', ranges: [{}] });
    buffer.push([message(1_200)]);
    buffer.complete = true;
    expect(cutter.cut(buffer, 10).map(({ bounds }) => bounds.end)).toEqual([new Date(T0 + 2 * S)]);
    buffer.flushing = false;
    expect(emitter.reads(T0 + 1_600)).toMatchObject(pass);
  });
});
