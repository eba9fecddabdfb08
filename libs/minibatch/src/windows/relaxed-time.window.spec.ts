import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import { CONTEXT, Driver, type DriverOptions, T0, told } from './driver.spec.support.js';
import { RelaxedTimeWindow } from './relaxed-time.window.js';

const S = 1000;
const driver = (context: DriverOptions['context'] = {}, more: DriverOptions = {}) =>
  new Driver(new RelaxedTimeWindow(), { ...more, context: { interval: 10 * S, ...context } });

describe('RelaxedTimeWindow', () => {
  it('emits every interval all messages since the last window', () => {
    const d = driver();
    d.append(T0 - 5 * S, T0 + S);
    d.run(T0 + S);
    expect(d.advance(T0 + 10 * S - 1)).toEqual([]);
    expect(d.advance(T0 + 10 * S).map(told)).toEqual(['[0,10): 1 2']);
    d.append(T0 + 12 * S, T0 + 3 * S);
    expect(d.advance(T0 + 20 * S).map(told)).toEqual(['[10,20): 3 4']);
  });

  it('closes by the clock, not by the next message, and reads nothing between the ticks', () => {
    const d = driver();
    d.append(T0);
    d.run(T0 + 5 * S);
    expect(d.reads).toBe(0);
    expect(d.advance(T0 + 10 * S).map(told)).toEqual(['[0,10): 1']);
    const { reads } = d;
    d.append(T0 + 11 * S);
    d.run(T0 + 12 * S);
    expect(d.reads).toBe(reads);
  });

  it('counts the ticks from the last window of an earlier process', () => {
    const d = driver({ lastEnd: new Date(T0 - 4 * S) });
    d.append(T0 + S);
    expect(d.advance(T0 + 6 * S).map(told)).toEqual(['[-4,6): 1']);
  });

  it('after a pause catches up with one window', () => {
    const d = driver({ empty: true });
    d.append(T0 + S);
    expect(d.run(T0 + 95 * S).map(told)).toEqual(['[0,90): 1']);
    d.append(T0 + 91 * S);
    expect(d.advance(T0 + 100 * S).map(told)).toEqual(['[90,100): 2']);
  });

  it('catches up at once with what came while no process ran', () => {
    const d = driver({ lastEnd: new Date(T0 - 3605 * S) });
    d.append(T0 - 1000 * S);
    expect(d.run(T0).map(told)).toEqual(['[-3605,-5): 1']);
  });

  it('ticks without messages emit nothing unless they are wanted', () => {
    expect(driver().advance(T0 + 100 * S)).toEqual([]);
    expect(
      driver({ empty: true })
        .advance(T0 + 30 * S)
        .map(told),
    ).toEqual(['[0,10):', '[10,20):', '[20,30):']);
  });

  it('empty windows are never made for time in which no process ran', () => {
    const d = driver({ empty: true, lastEnd: new Date(T0 - 3605 * S) });
    expect(d.run(T0)).toEqual([]);
    expect(d.advance(T0 + 5 * S).map(told)).toEqual(['[-5,5):']);
    const slow = driver({ empty: true, lastEnd: new Date(T0 - 3605 * S) });
    expect(slow.run(T0 + 16 * S).map(told)).toEqual(['[-5,15):']);
  });

  it('an empty window is not made for the interval that ends as the process starts', () => {
    const d = driver({ empty: true, lastEnd: new Date(T0 - 10 * S) });
    expect(d.run(T0)).toEqual([]);
    expect(d.advance(T0 + 10 * S).map(told)).toEqual(['[0,10):']);
  });

  it('asks to be woken at the next tick, also after one without messages', () => {
    const d = driver();
    d.run(T0 + 10 * S);
    expect(d.emitter.nextCheck(d.buffer as never)).toBe(T0 + 20 * S);
    d.append(T0 + 12 * S);
    d.run(T0 + 20 * S);
    expect(d.emitter.nextCheck(d.buffer as never)).toBe(T0 + 30 * S);
  });

  it('needs no time while it gathers: it is asked again when more has been read', () => {
    const { emitter, buffer } = driver();
    emitter.reads(T0 + 10 * S);
    expect(emitter.nextCheck(buffer as never)).toBeUndefined();
  });

  it('a message on the tick belongs to the next window if the reading does not get to the end', () => {
    const d = driver({}, { block: 2 });
    d.append(T0 + S, T0 + 10 * S - 1, T0 + 10 * S, T0 + 11 * S, T0 + 12 * S, T0 + 13 * S);
    expect(d.run(T0 + 10 * S).map(told)).toEqual(['[0,10): 1 2']);
    expect(d.advance(T0 + 20 * S).map(told)).toEqual(['[10,20): 3 4 5 6']);
  });

  it('a fast producer does not keep a window open indefinitely', () => {
    const d = driver(
      {},
      { block: 10, afterRead: (self) => self.append(...Array.from({ length: 20 }, () => T0 + 10 * S + 5)) },
    );
    d.append(...Array.from({ length: 30 }, () => T0 + S));
    const [window, ...others] = d.run(T0 + 10 * S);
    expect(window?.messages).toHaveLength(30);
    expect(others).toEqual([]);
  });

  it('a producer whose clock is ahead does not keep the others waiting', () => {
    const d = driver({}, { block: 2, lookAhead: 4 });
    d.append(...Array.from({ length: 4 }, () => T0 + 3600 * S), ...Array.from({ length: 6 }, () => T0 + S));
    d.advance(T0 + 30 * S);
    expect(d.windows.flatMap(({ messages }) => messages)).toHaveLength(10);
  });

  it('emits in parts what the buffer can not hold', () => {
    const d = driver({}, { block: 2, lookAhead: 4 });
    d.append(...Array.from({ length: 10 }, () => T0 + S));
    expect(d.run(T0 + 10 * S).map(told)).toEqual([
      '[0,10) part 0: 1 2 3 4',
      '[0,10) part 1: 5 6 7 8',
      '[0,10) part 2: 9 10',
    ]);
  });

  it('a pass that takes longer than an interval is followed by one that reads again', () => {
    const d = driver({ empty: true });
    d.append(T0 + S);
    d.run(T0 + 10 * S);
    d.append(T0 + 11 * S);
    expect(d.run(T0 + 25 * S).map(told)).toEqual(['[10,20): 2']);
  });

  it('after each pass it rests, even if the next tick has been reached: the reader starts anew', () => {
    const { emitter, buffer } = driver();
    expect(emitter.reads(T0 + 10 * S)).toEqual({ order: 'append' });
    buffer.complete = true;
    emitter.observe(buffer as never);
    expect(emitter.windowReady(buffer as never)).toBe(false);
    expect(emitter.reads(T0 + 25 * S)).toEqual({ order: 'idle', until: T0 + 20 * S });
    expect(emitter.reads(T0 + 25 * S)).toEqual({ order: 'append' });
  });

  it('parts end at the tick too', () => {
    const d = driver(
      {},
      { block: 4, lookAhead: 4, afterRead: (self) => self.append(...Array.from({ length: 8 }, () => T0 + 10 * S)) },
    );
    d.append(...Array.from({ length: 8 }, () => T0 + S));
    expect(d.run(T0 + 10 * S).map(told)).toEqual(['[0,10) part 0: 1 2 3 4', '[0,10) part 1: 5 6 7 8']);
  });

  it('a flush takes what is there now; the ticks stay where they are', () => {
    const d = driver({ empty: true });
    d.append(T0 + S);
    expect(d.flush(T0 + 4 * S).map(told)).toEqual(['[0,4): 1']);
    expect(d.flush(T0 + 5 * S)).toEqual([]);
    d.append(T0 + 6 * S);
    expect(d.advance(T0 + 10 * S).map(told)).toEqual(['[4,10): 2']);
    d.append(T0 + 11 * S);
    expect(d.advance(T0 + 20 * S).map(told)).toEqual(['[10,20): 3']);
  });

  it('a flush that the buffer can not hold has parts with the same bounds', () => {
    const d = driver({}, { block: 2, lookAhead: 4 });
    d.append(...Array.from({ length: 6 }, () => T0 + S));
    expect(d.flush(T0 + 4 * S).map(told)).toEqual(['[0,4) part 0: 1 2 3 4', '[0,4) part 1: 5 6']);
  });

  it('continues when the clock is set back by hours', () => {
    const d = driver();
    d.append(T0 + S);
    d.advance(T0 + 10 * S);
    const back = T0 - 3600 * S;
    d.append(back);
    d.run(back + S);
    expect(d.advance(back + 10 * S).map(told)).toEqual(['[-3600,-3590): 2']);
  });

  it('has empty windows and flushes of now when the clock is set back by hours', () => {
    const d = driver({ empty: true });
    d.advance(T0 + 10 * S);
    const back = T0 - 3600 * S;
    d.append(back + S);
    expect(d.flush(back + 4 * S).map(told)).toEqual(['[-3600,-3596): 1']);
    expect(d.advance(back + 20 * S).map(told)).toEqual(['[-3596,-3590):', '[-3590,-3580):']);
    d.append(back + 19 * S);
    // A small step: the window begins where the last one has ended.
    expect(d.flush(back + 19 * S).map(told)).toEqual(['[-3580,-3580): 2']);
  });

  it('a small step back does not emit a tick twice', () => {
    const d = driver({ empty: true });
    expect(d.advance(T0 + 10 * S).map(told)).toEqual(['[0,10):']);
    expect(d.run(T0 + 10 * S - 20)).toEqual([]);
    expect(d.advance(T0 + 19 * S)).toEqual([]);
    expect(d.advance(T0 + 20 * S).map(told)).toEqual(['[10,20):']);
  });

  it('refuses to start without an interval', () => {
    expect(() => new RelaxedTimeWindow().init(CONTEXT)).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions }),
    );
  });
});
