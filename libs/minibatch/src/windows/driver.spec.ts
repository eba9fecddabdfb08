import { describe, expect, it } from 'vitest';
import { CountWindow } from './count.window.js';
import { Driver, T0 } from './driver.spec.support.js';
import type { ReadPlan } from './window-emitter.js';

describe('the driver of the strategies', () => {
  it.each([
    {
      what: 'is never ready to wait',
      emitter: new (class extends CountWindow<{ value: number }> {
        private turn = 0;
        override reads(): ReadPlan {
          return (this.turn += 1) % 2 === 0 ? { order: 'idle', until: T0 + 60_000 } : { order: 'append' };
        }
      })(),
      message: 'the strategy never lets the loop come to rest',
    },
    {
      what: 'wants to be woken at the time it is',
      emitter: new (class extends CountWindow<{ value: number }> {
        override nextCheck() {
          return T0;
        }
      })(),
      message: 'the strategy asks to be woken in the past',
    },
    {
      what: 'wants to be woken in ever smaller steps',
      emitter: new (class extends CountWindow<{ value: number }> {
        private at = T0;
        override nextCheck() {
          return (this.at += 0.001);
        }
      })(),
      message: 'the strategy asks to be woken without end',
    },
  ])('gives up on a strategy that $what', ({ emitter, message }) => {
    const driver = new Driver(emitter, { context: { size: 10 } });
    driver.append(T0);
    expect(() => driver.advance(T0 + 60_000)).toThrow(message);
  });
});
