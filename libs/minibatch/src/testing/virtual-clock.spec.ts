import { describe, expect, it } from 'vitest';
import { VirtualClock } from './virtual-clock.js';

describe('VirtualClock', () => {
  it('fires timers in the order of their times, each at its own time', async () => {
    const clock = new VirtualClock(0);
    const fired: [string, number][] = [];
    const at = (name: string, ms: number) => clock.schedule(ms, () => fired.push([name, clock.now()]));
    at('late', 20);
    at('first', 10);
    at('second', 10);
    at('now', -5);
    const cancel = at('cancelled', 10);
    cancel();
    await clock.advance(15);
    expect(fired).toEqual([
      ['now', 0],
      ['first', 10],
      ['second', 10],
    ]);
    await clock.advance(4);
    expect(fired).toHaveLength(3);
    await clock.advance(1);
    expect(fired.at(-1)).toEqual(['late', 20]);
  });

  it('fires what fell due while it slept with the next advance', async () => {
    const clock = new VirtualClock(0);
    const fired: number[] = [];
    clock.schedule(10, () => fired.push(clock.now()));
    clock.sleep(50);
    expect(fired).toEqual([]);
    await clock.advance(0);
    expect(fired).toEqual([50]);
    expect(clock.monotonic()).toBe(50);
  });

  it('counts whole milliseconds, so that waiting for a time by one clock reaches it by the other', async () => {
    const clock = new VirtualClock();
    clock.schedule(0.25, () => undefined);
    const until = clock.now() + 10.3;
    let looks = 0;
    const look = () => {
      looks += 1;
      const rest = until - clock.now();
      if (rest > 0) clock.schedule(rest, look);
    };
    clock.schedule(1 / 3, look);
    clock.sleep(0.1);
    await clock.advance(20.2);
    expect(looks).toBe(2);
    expect([clock.monotonic(), clock.now() - Date.UTC(2026, 0, 1)]).toEqual([20, 20]);
  });

  it('never runs back, though one call moves it further while another waits', async () => {
    const clock = new VirtualClock(0);
    let settle = (): void => undefined;
    const settled = new Promise<void>((resolve) => (settle = resolve));
    const short = clock.advance(10, () => settled);
    await clock.advance(100);
    settle();
    await short;
    expect(clock.monotonic()).toBe(100);
  });

  it('moves the wall clock alone by a jump', async () => {
    const clock = new VirtualClock(0);
    let fired = false;
    clock.schedule(10, () => (fired = true));
    clock.jump(1_000);
    await clock.advance(9);
    expect([clock.now(), clock.monotonic(), fired]).toEqual([1_009, 9, false]);
  });

  it('says so when timers follow each other without time passing, instead of looping endlessly', async () => {
    const clock = new VirtualClock(0);
    const again = () => void clock.schedule(0, again);
    again();
    await expect(clock.advance(1, () => Promise.resolve())).rejects.toThrow(/timers fired and the time is still 1970/);
  });
});
