import { describe, expect, it } from 'vitest';
import { BoundedMap } from './bounded-map.js';

const keysOf = (map: BoundedMap<number, number>, upTo: number) =>
  Array.from({ length: upTo }, (_, n) => n).filter((n) => map.has(n));

describe('BoundedMap', () => {
  it('forgets what was set longest ago, not what was set first', () => {
    const map = new BoundedMap<number, number>(3);
    for (const n of [0, 1, 2]) map.set(n, n);
    map.set(0, 10);
    map.set(3, 3);
    expect(keysOf(map, 4)).toEqual([0, 2, 3]);
    expect([map.get(0), map.get(1), map.size]).toEqual([10, undefined, 3]);
  });

  it('does as one that looks for the oldest anew each time', () => {
    const map = new BoundedMap<number, number>(20);
    const model = new Map<number, number>();
    let state = 7;
    const random = (below: number) => (state = (state * 48_271) % 2_147_483_647) % below;
    for (let step = 0; step < 20_000; step += 1) {
      const key = random(60);
      model.delete(key);
      model.set(key, step);
      map.set(key, step);
      for (const oldest of model.keys()) {
        if (model.size <= 20) break;
        model.delete(oldest);
      }
      if (random(500) === 0) {
        const from = step - random(60);
        map.forget((value) => value < from);
        for (const [each, value] of model) if (value < from) model.delete(each);
      }
      if (map.size !== model.size || map.get(key) !== step) throw new Error(`step ${step}`);
    }
    expect(keysOf(map, 60)).toEqual([...model.keys()].toSorted((a, b) => a - b));
  });
});
