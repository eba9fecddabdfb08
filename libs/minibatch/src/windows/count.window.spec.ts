import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import { CountWindow } from './count.window.js';
import { MessageBuffer } from './message-buffer.js';
import { CONTEXT, Driver, type DriverOptions, T0, told } from './driver.spec.support.js';

const driver = (context: DriverOptions['context'], more: DriverOptions = {}) =>
  new Driver(new CountWindow(), { ...more, context: { ...context } });
const times = (n: number, at = T0) => Array.from({ length: n }, () => at);

describe('CountWindow', () => {
  it('emits n messages as soon as n are there, in order; the tail waits', () => {
    const d = driver({ size: 3 });
    d.append(...times(2));
    expect(d.run(T0)).toEqual([]);
    d.append(...times(5));
    expect(d.run(T0).map(told)).toEqual([': 1 2 3', ': 4 5 6']);
    expect(d.advance(T0 + 86_400_000)).toEqual([]);
    expect(d.windows[0]?.bounds).toEqual({});
  });

  it('a flush emits the tail, and once', () => {
    const d = driver({ size: 3 });
    d.append(...times(5));
    d.run(T0);
    expect(d.flush().map(told)).toEqual([': 4 5']);
    expect(d.flush()).toEqual([]);
    d.append(T0);
    expect(d.run(T0)).toEqual([]);
  });

  it('a flush reads on to the end before it emits the tail', () => {
    const d = driver({ size: 4 }, { block: 3 });
    d.append(...times(10));
    expect(d.flush(T0).map(told)).toEqual([': 1 2 3 4', ': 5 6 7 8', ': 9 10']);
  });

  it('a limit of bytes may stop the reading before the size is reached', () => {
    const d = driver({ size: 10 }, { readAheadBytes: 250, block: 1 });
    d.append(...times(7));
    expect(d.run(T0).map(told)).toEqual([': 1 2 3', ': 4 5 6']);
  });

  it('asks for as much room as it needs', () => {
    const d = driver({ size: 30_000 }, { lookAhead: 10 });
    d.append(...times(30_000));
    expect(d.run(T0).flatMap(({ bounds }) => bounds.part)).toEqual([0, 1, 2]);
  });

  describe('with a longest wait', () => {
    it('emits what is there that long after the first was appended', () => {
      const d = driver({ size: 3, interval: 2000 });
      d.append(T0, T0);
      d.run(T0);
      expect(d.advance(T0 + 1999)).toEqual([]);
      expect(d.advance(T0 + 2000).map(told)).toEqual([': 1 2']);
    });

    it('asks to be woken when the wait of the first is over, and for nothing while there is none', () => {
      const d = driver({ size: 3, interval: 2000 });
      expect(d.emitter.nextCheck(d.buffer as never)).toBeUndefined();
      d.append(T0);
      d.run(T0);
      d.append(T0 + 500);
      d.run(T0 + 500);
      expect(d.emitter.nextCheck(d.buffer as never)).toBe(T0 + 2000);
    });

    it('emits before when the size is reached', () => {
      const d = driver({ size: 3, interval: 2000 });
      d.append(T0, T0, T0, T0);
      expect(d.run(T0).map(told)).toEqual([': 1 2 3']);
      expect(d.advance(T0 + 2000).map(told)).toEqual([': 4']);
    });

    it('is never restarted by a later message', () => {
      const d = driver({ size: 100, interval: 2000 });
      for (let at = T0; at < T0 + 2000; at += 500) {
        d.append(at);
        expect(d.run(at)).toEqual([]);
      }
      expect(d.advance(T0 + 2000).map(told)).toEqual([': 1 2 3 4']);
      d.append(T0 + 2500);
      d.run(T0 + 2500);
      expect(d.advance(T0 + 4499)).toEqual([]);
      expect(d.advance(T0 + 4500).map(told)).toEqual([': 5']);
    });

    it('counts from the append, not from when it was read', () => {
      const d = driver({ size: 100, interval: 2000 });
      d.append(T0 - 1500);
      expect(d.run(T0)).toEqual([]);
      expect(d.advance(T0 + 500).map(told)).toEqual([': 1']);
    });

    it('does not wait for a clock that is ahead', () => {
      const d = driver({ size: 100, interval: 2000 });
      d.append(T0 + 3_600_000);
      d.run(T0);
      expect(d.advance(T0 + 2000).map(told)).toEqual([': 1']);
    });

    it('does not wait for hours when its own clock is set back', () => {
      const d = driver({ size: 100, interval: 2000 });
      d.append(T0);
      d.run(T0);
      const back = T0 - 3_600_000;
      expect(d.run(back)).toEqual([]);
      expect(d.run(back + 1999)).toEqual([]);
      expect(d.run(back + 2000).map(told)).toEqual([': 1']);
    });

    it('emits nothing while nothing is there, even if no more may be read', () => {
      const emitter = new CountWindow();
      void emitter.init({ ...CONTEXT, size: 3, interval: 2000 });
      const buffer = new MessageBuffer();
      buffer.saturated = true;
      expect(emitter.windowReady(buffer)).toBe(false);
    });

    it('in a backlog fills windows instead of emitting what one read brought', () => {
      const d = driver({ size: 4, interval: 2000 }, { block: 3 });
      d.append(...times(9, T0 - 100_000));
      expect(d.run(T0).map(told)).toEqual([': 1 2 3 4', ': 5 6 7 8', ': 9']);
    });
  });

  it('refuses to start without a size', () => {
    for (const size of [undefined, 0, 1.5, Number.NaN]) {
      expect(() => new CountWindow().init({ ...CONTEXT, ...(size === undefined ? {} : { size }) })).toThrow(
        expect.objectContaining({
          code: ErrorCode.InvalidOptions,
          message: expect.stringContaining('CountWindow of consumer "default" on stream "flights"') as string,
          details: {
            emitter: 'CountWindow',
            stream: 'flights',
            group: 'default',
            option: 'size',
            given: size,
            allowed: 'a whole number of messages from 1',
          },
        }),
      );
    }
  });

  it('forgets what it knew when it takes up its work again', () => {
    const emitter = new CountWindow();
    const d = new Driver(emitter as never, { context: { size: 5 } });
    d.append(T0, T0);
    void emitter.init({ ...CONTEXT, size: 2 });
    expect(d.run(T0).map(told)).toEqual([': 1 2']);
  });
});
