import { describe, expect, it } from 'vitest';
import { MessageIds } from './message-ids.js';

describe('MessageIds', () => {
  it('grow within a second, over the end of its counter, and when the clock goes back', () => {
    let now = 1_700_000_000_000;
    const ids = new MessageIds(() => now);
    const made = [ids.next(), ids.next()];
    Reflect.set(ids, 'counter', 2 ** 24 - 1);
    made.push(ids.next(), ids.next());
    now -= 3_600_000;
    made.push(ids.next());
    now += 7_200_000;
    made.push(ids.next());
    const hex = made.map((id) => id.toHexString());
    expect(hex).toEqual([...new Set(hex)].toSorted());
    expect(made[0]?.getTimestamp()).toEqual(new Date(1_700_000_000_000));
    expect(made.at(-1)?.getTimestamp()).toEqual(new Date(now));
  });

  it('are known in hexadecimal', () => {
    let now = 1_700_000_000_000;
    const ids = new MessageIds(() => now);
    for (const counter of [0, 1, 255, 256, 65_535, 65_536, 2 ** 24 - 1, 2 ** 24, 1]) {
      now += 700;
      Reflect.set(ids, 'counter', counter);
      const hex = ids.next().toHexString();
      expect(ids.lastHex).toBe(hex);
    }
  });

  it('differ between processes', () => {
    const now = () => 0;
    expect(new MessageIds(now).next().equals(new MessageIds(now).next())).toBe(false);
  });
});
