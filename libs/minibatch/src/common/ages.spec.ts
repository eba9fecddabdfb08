import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../testing/virtual-clock.js';
import { Ages } from './ages.js';

const HOUR = 3_600_000;
const YEAR = 365 * 24 * HOUR;

describe('Ages', () => {
  const make = () => {
    const clock = new VirtualClock();
    const ages = new Ages(clock);
    return { clock, isOld: (time: number, age = HOUR) => time < ages.limit(age), limit: ages.limit.bind(ages) };
  };

  it('go by the clock as long as it does not jump', () => {
    const { clock, isOld } = make();
    const created = clock.now();
    clock.sleep(HOUR);
    expect(isOld(created)).toBe(false);
    clock.sleep(1);
    expect(isOld(created)).toBe(true);
  });

  it('are reached by no step forward, but by the time that passes', () => {
    const { clock, isOld } = make();
    clock.sleep(HOUR);
    const created = clock.now();
    clock.sleep(HOUR / 2);
    clock.jump(YEAR);
    expect(isOld(created)).toBe(false);
    const after = clock.now();
    clock.sleep(HOUR / 2 - 1);
    expect(isOld(created)).toBe(false);
    clock.sleep(2);
    expect(isOld(created)).toBe(true);
    expect(isOld(created, 2 * HOUR)).toBe(false);
    expect(isOld(after)).toBe(false);
    clock.sleep(HOUR / 2);
    expect(isOld(after)).toBe(true);
  });

  it('need longer after a step back, and are right again when it is taken back', () => {
    const { clock, isOld, limit } = make();
    const created = clock.now();
    clock.jump(-YEAR);
    clock.sleep(2 * HOUR);
    expect(isOld(created)).toBe(false);
    clock.jump(YEAR);
    expect(isOld(created)).toBe(true);
    clock.jump(YEAR);
    expect(isOld(clock.now() - YEAR)).toBe(false);
    clock.jump(-YEAR);
    expect(limit(HOUR)).toBe(clock.now() - HOUR);
  });

  it('hold over many steps', () => {
    const { clock, isOld } = make();
    const created = clock.now();
    for (let n = 0; n < 100; n += 1) {
      clock.jump(HOUR);
      expect(isOld(created)).toBe(false);
    }
    clock.sleep(HOUR + 1);
    expect(isOld(created)).toBe(true);
  });
});
