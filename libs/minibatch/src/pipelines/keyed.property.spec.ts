import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { mortalStore, wrapStore } from '../testing/wrapped-store.js';
import type { Window } from '../windows/window.js';
import { type Event, EVENTS, KeyedWorld, shown } from './keyed.spec.support.js';

/** `FC_RUNS=1000` for a long search. */
const RUNS = Number(process.env['FC_RUNS'] ?? 40);
const KEY = { stream: EVENTS, group: 'default', partition: 0 };
const LEASE = 15_000;

/** A process is killed at a call of its store: before it has an effect, or after. */
interface Kill {
  readonly call: number;
  readonly when: 'before' | 'after';
}

interface Plan {
  readonly kind: keyof typeof KINDS;
  readonly workers: number;
  readonly maxSize: number;
  /** What is appended before each process begins; one more than kills. */
  readonly parts: readonly (readonly Event[])[];
  readonly kills: readonly Kill[];
}

const time = ({ at = 0 }: Event) => at * 1_000;
const byTime = { by: 'k', time, idle: 'hold' };
const KINDS = {
  tumbling: { ...byTime, interval: '4s' },
  hopping: { ...byTime, interval: '6s', every: '2s', wait: '1s' },
  session: { ...byTime, gap: '3s', interval: '9s', wait: '2s' },
  message: { ...byTime, interval: '5s', every: 'message' },
  late: { ...byTime, interval: '4s', lateness: '3s', late: 'drop' },
  count: { by: 'k', size: 4, every: 2, partial: true },
} as const;

/** Each window that was handled, by its id. */
async function live({ kind, workers, maxSize, parts, kills }: Plan): Promise<{
  readonly handled: ReadonlyMap<string, string>;
  readonly violations: readonly string[];
  readonly rows: readonly string[];
}> {
  const database = new MemoryDatabase();
  const plain = new MemoryStreamStore(database);
  await plain.ensureStream(EVENTS);
  const handled = new Map<string, string>();
  const violations: string[] = [];
  // Later than all events: none of them is ahead of the clock.
  let now = 1_000_000;
  for (const [index, events] of parts.entries()) {
    const kill = kills[index];
    const clock = new VirtualClock(now);
    let calls = 0;
    let isDead = false;
    const mortal = mortalStore(
      wrapStore(new MemoryStreamStore(database), async (call) => {
        calls += 1;
        if (isDead) return new Promise(() => undefined);
        if (calls !== kill?.call) return call.proceed();
        isDead = true;
        if (kill.when === 'after') await call.proceed();
        mortal.kill();
        return new Promise(() => undefined);
      }),
    );
    const created = new Date(now);
    if (events.length > 0) await plain.append(events.map((data) => ({ stream: EVENTS, data, created })));
    const world = new KeyedWorld(mortal.store, clock);
    const running = new Set<string | undefined>();
    const consuming = world.consume({ ...KINDS[kind], workers, maxSize }, async (window: Window) => {
      if (isDead) return new Promise(() => undefined);
      if (running.has(window.key)) violations.push(`two windows of ${window.key} at once`);
      running.add(window.key);
      await Promise.resolve();
      running.delete(window.key);
      const content = `${shown(window)}${window.part ?? ''}`;
      if ((handled.get(window.id) ?? content) !== content)
        violations.push(`${handled.get(window.id)}, then ${content}`);
      handled.set(window.id, content);
      return undefined;
    });
    consuming.catch(() => undefined);
    await clock.advance(LEASE * 3, () => turnsOf(30));
    mortal.kill();
    now = clock.now();
  }
  const { windows } = await plain.readWindows(KEY, 'claimed', undefined, 100);
  if (windows.length > 0) violations.push(`${windows.length} windows are left`);
  if ((await plain.stats([EVENTS]))[0]?.buffered !== 0) violations.push('messages are left');
  const rows = await plain.listState(KEY, undefined, { rows: 10_000, bytes: 1e9 });
  if (rows.rows.some(({ slot }) => slot.startsWith('f/'))) violations.push('fired windows are left');
  return { handled, violations, rows: rows.rows.map(({ slot }) => slot.replace(/^c\/\d+\/\d+$/, 'c')).toSorted() };
}

async function turnsOf(count: number): Promise<void> {
  for (let i = 0; i < count; i += 1) await new Promise((resolve) => setImmediate(resolve));
}

const plan: fc.Arbitrary<Plan> = fc
  .record({
    kind: fc.constantFrom(...(Object.keys(KINDS) as (keyof typeof KINDS)[])),
    workers: fc.integer({ min: 1, max: 3 }),
    maxSize: fc.constantFrom(4, 10_000),
    events: fc.array(fc.record({ k: fc.constantFrom('a', 'b'), step: fc.integer({ min: -3, max: 4 }) }), {
      maxLength: 16,
    }),
    kills: fc.array(
      fc.record({ call: fc.integer({ min: 1, max: 50 }), when: fc.constantFrom('before' as const, 'after' as const) }),
      { maxLength: 3 },
    ),
  })
  .map(({ events, kills, ...rest }) => {
    let at = 10;
    const timed = events.map(({ k, step }, n): Event => ({ k, at: (at = Math.max(0, at + step)), n }));
    // Closes what is open.
    const all = [...timed, { k: 'end', at: at + 50, n: -1 }];
    const size = Math.ceil(all.length / (kills.length + 1));
    const parts = Array.from({ length: kills.length + 1 }, (_, index) => all.slice(index * size, (index + 1) * size));
    return { ...rest, kills, parts };
  });

describe('windows by key and event time for a method, with kills at calls of the store', () => {
  it('are the same windows as without, with the same ids', { timeout: RUNS * 3_000 + 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(plan, async (given) => {
        const right = await live({ ...given, kills: [] });
        expect(right.violations).toEqual([]);
        const isHandled = given.kind !== 'count' && given.parts.flat().length > 1;
        if (isHandled) expect(right.handled.size).toBeGreaterThan(0);
        const found = await live(given);
        expect(found.violations).toEqual([]);
        expect(new Map([...found.handled].sort())).toEqual(new Map([...right.handled].sort()));
        expect(found.rows).toEqual(right.rows);
      }),
      { numRuns: RUNS },
    );
  });
});
