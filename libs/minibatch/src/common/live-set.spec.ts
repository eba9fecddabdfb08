import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { LiveSet } from './live-set.js';

describe('LiveSet', () => {
  it('does as a Set does', () => {
    const set = new LiveSet<number>();
    const model = new Set<number>();
    let state = 11;
    const random = (below: number) => (state = (state * 48_271) % 2_147_483_647) % below;
    for (let step = 0; step < 5_000; step += 1) {
      const element = random(40);
      if (random(2) === 0) {
        set.add(element);
        model.add(element);
      } else {
        set.delete(element);
        model.delete(element);
      }
      if (set.size !== model.size || set.has(element) !== model.has(element)) throw new Error(`step ${step}`);
    }
    expect([...set]).toEqual([...model]);
  });

  it('lets a minor garbage collection free what has left', () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as (options?: { type: 'minor' }) => void;
    const old = () =>
      getHeapSpaceStatistics().find(({ space_name: name }) => name === 'old_space')?.space_used_size ?? 0;
    const kept = (set: { add(element: object): unknown; delete(element: object): unknown }) => {
      const there: object[] = [];
      const churn = (times: number) => {
        for (let n = 0; n < times; n += 1) {
          const element = { numbers: Array.from({ length: 100 }, () => ({ n })) };
          set.add(element);
          there.push(element);
          if (there.length > 3) set.delete(there.shift() as object);
          if (n % 50 === 0) collect({ type: 'minor' });
        }
      };
      churn(500);
      collect();
      const before = old();
      churn(5_000);
      return old() - before;
    };
    expect(kept(new LiveSet())).toBeLessThan(kept(new Set()) / 4);
  });
});
