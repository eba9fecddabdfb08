import { describe, expect, it } from 'vitest';
import { keyOf } from '../../../../../test/support/mongoose-store.js';
import { MarkDelay } from './mark-delay.js';

const KEY = keyOf('flights');

describe('MarkDelay', () => {
  it('waits only for groups that have claimed in this process', () => {
    const groups = new MarkDelay();
    groups.claimed(keyOf('flights', 'audit'));
    groups.claimed(keyOf('trains', 'report'));
    expect(groups.delay(KEY, ['audit'])).toBeGreaterThan(0);
    expect(groups.delay(KEY, ['audit', 'report'])).toBe(0);
  });

  it('waits for a group that is as slow as this one is', () => {
    let now = 0;
    const groups = new MarkDelay(() => now);
    const patience = [];
    for (now = 0; now < 6_000; now += 1_200) {
      patience.push(groups.delay(KEY, ['audit']));
      groups.claimed(keyOf('flights', 'audit'));
    }
    expect(patience.slice(1)).toEqual([2_400, 2_400, 2_400, 2_400]);
    now += 1_800;
    expect(groups.delay(KEY, ['audit'])).toBe(0);
  });

  it('waits ever more rarely for a group that lags, and at once again after a wait that paid', () => {
    const groups = new MarkDelay();
    const waits = (count: number) => {
      groups.claimed(keyOf('flights', 'audit'));
      return Array.from({ length: count }, () => groups.delay(KEY, ['audit']) > 0);
    };
    groups.waited(KEY, true);
    expect(waits(3)).toEqual([false, false, true]);
    groups.waited(KEY, true);
    expect(waits(5)).toEqual([false, false, false, false, true]);
    groups.waited(KEY, false);
    expect(waits(2)).toEqual([true, true]);
  });
});
