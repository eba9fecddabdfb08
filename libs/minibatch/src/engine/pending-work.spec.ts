import { describe, expect, it } from 'vitest';
import { describePendingWork } from './pending-work.js';

type Consumer = Parameters<typeof describePendingWork>[0][number];
type Current = { readonly window: string; readonly sink?: string; readonly since: Date };

const since = new Date(Date.UTC(2026, 0, 1));
const consumer = (label: string, current: readonly Current[] = [], isOver = false): Consumer => ({
  term: { definition: { label }, calls: { current }, isOver } as unknown as Consumer['term'],
  loop: { inFlight: 2 },
});
const waiting = (count: number) => Array.from({ length: count }, (_, index) => consumer(`c${index + 1}`));
const words = (label: string) => `${label}: the store, to commit 2 windows`;

describe('what consumers that are being stopped still wait for', () => {
  it('is nothing if all of them are through', () => {
    expect(describePendingWork([])).toBeUndefined();
    expect(describePendingWork([consumer('a', [], true)])).toBeUndefined();
  });

  it('is what runs, or else the store', () => {
    const busy = consumer('a', [
      { window: 'w1', since },
      { window: 'w2', sink: 'kafka', since },
    ]);
    expect(describePendingWork([busy, consumer('over', [], true), consumer('b')])).toBe(
      'a: the method with window w1 since 2026-01-01T00:00:00.000Z, ' +
        `sink kafka with window w2 since 2026-01-01T00:00:00.000Z; ${words('b')}`,
    );
  });

  it('is one window, or more', () => {
    const [one] = waiting(1);
    const loop = { inFlight: 1 };
    expect(describePendingWork([{ ...one!, loop }])).toBe('c1: the store, to commit 1 window');
  });

  it('names five consumers at the most, and counts the others', () => {
    const five = ['c1', 'c2', 'c3', 'c4', 'c5'].map(words).join('; ');
    expect(describePendingWork(waiting(5))).toBe(five);
    expect(describePendingWork(waiting(6))).toBe(`${five}; 1 more consumer`);
    expect(describePendingWork(waiting(30))).toBe(`${five}; 25 more consumers`);
  });
});
