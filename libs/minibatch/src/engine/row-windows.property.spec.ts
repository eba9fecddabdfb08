import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { MemoryDatabase } from '../storage/memory/memory.database.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import type { Window } from '../windows/window.js';
import { LEASE, Process, stop, STREAM, storeToInspect, turns } from './process.spec.support.js';
import { keyOf, pairs, pairsOf } from './row-windows.spec.support.js';

/** `FC_RUNS=2000` for a long search. */
const RUNS = Number(process.env['FC_RUNS'] ?? 60);
const KEY = { stream: STREAM, group: 'default', partition: 0 };

/** A process is killed at a call of its store: before it has an effect, or after. */
interface Kill {
  readonly call: number;
  readonly when: 'before' | 'after';
}

interface Plan {
  readonly data: readonly string[];
  readonly workers: number;
  readonly size: number;
  readonly readAhead: number;
  readonly kills: readonly Kill[];
  /** The first so many runs of windows with these messages fail. */
  readonly failing: Readonly<Record<string, number>>;
}

/** What became of the messages. */
interface Outcome {
  readonly calls: number;
  readonly violations: readonly string[];
}

const text = ({ data }: Pick<Window, 'data'>) => data.join();

class Life {
  readonly violations: string[] = [];
  /** Contents of the windows that were handled whole, by id. */
  readonly handled = new Map<string, string>();
  /** Contents by key, as they were handled first. */
  readonly order = new Map<string, string[]>();
  private readonly failures = new Map<string, number>();
  private running = new Set<string>();
  calls = 0;
  private clock = new VirtualClock();

  constructor(
    private readonly database: MemoryDatabase,
    private readonly plan: Plan,
  ) {}

  async live(): Promise<void> {
    const { data, kills } = this.plan;
    let appended = 0;
    for (const [index, kill] of [...kills, undefined].entries()) {
      this.running = new Set();
      let isDead = false;
      let calls = 0;
      const p: Process = new Process(this.database, {
        clock: this.clock,
        engine: { readAhead: this.plan.readAhead },
        around: async (call) => {
          calls += 1;
          this.calls += 1;
          const isIt = calls === kill?.call;
          if (isIt) isDead = true;
          if (isIt && kill.when === 'before') p.kill();
          if (isDead && !isIt) return new Promise(() => undefined);
          if (isIt && kill.when === 'before') return new Promise(() => undefined);
          const answer = await call.proceed();
          if (isIt) p.kill();
          return answer;
        },
      });
      p.consumer(this.consumer(() => isDead));
      void p.engine.start();
      await turns(() => false, 20);
      const part = Math.ceil(data.length / (kills.length + 1));
      const some = data.slice(appended, appended + part);
      appended += some.length;
      await this.append(some);
      p.engine.wake(STREAM);
      await this.clock.advance(index < kills.length ? LEASE * 1.5 : LEASE * 8, () => turns(() => false, 40));
      if (kill) p.kill();
      else await stop(p);
      this.clock = new VirtualClock(this.clock.now());
    }
  }

  private async append(data: readonly string[]): Promise<void> {
    const { plain } = inspect(this.database);
    const created = new Date(this.clock.now());
    if (data.length > 0) await plain.append(data.map((each) => ({ stream: STREAM, data: each, created })));
  }

  private consumer(isDead: () => boolean) {
    const { workers, size } = this.plan;
    return {
      ...{ size, interval: 100, stage: pairs, workers },
      retry: { base: 100, max: 400, jitter: 0, attempts: 3 },
      handler: async (window: Window) => {
        if (isDead()) return new Promise(() => undefined);
        const key = keyOf(window.data[0]);
        if (this.running.has(key)) this.violations.push(`two windows of ${key} at once`);
        this.running.add(key);
        await Promise.resolve();
        this.running.delete(key);
        const content = text(window);
        const failed = this.failures.get(content) ?? 0;
        if (failed < (this.plan.failing[content] ?? 0)) {
          this.failures.set(content, failed + 1);
          throw new Error('not now');
        }
        if (window.split) this.violations.push(`${content} was taken apart`);
        const known = this.handled.get(window.id);
        if (known !== undefined && known !== content) this.violations.push(`${window.id}: ${known}, then ${content}`);
        this.handled.set(window.id, content);
        const order = this.order.get(key) ?? [];
        if (!order.includes(content)) this.order.set(key, [...order, content]);
        return undefined;
      },
    };
  }
}

function inspect(database: MemoryDatabase) {
  const { plain } = storeToInspect(database);
  return { plain };
}

async function live(plan: Plan): Promise<Outcome> {
  const { database, plain, letters, buffered } = storeToInspect();
  const life = new Life(database, plan);
  await life.live();
  const { violations } = life;
  const right = pairsOf(plan.data);
  for (const [key, windows] of right) {
    const found = life.order.get(key) ?? [];
    if (found.join(' ') !== windows.join(' '))
      violations.push(`${key}: ${found.join(' ')} and not ${windows.join(' ')}`);
  }
  if (life.handled.size !== new Set(life.handled.values()).size) violations.push('a window has had two ids');
  if ((await buffered()) !== 0) violations.push('messages are left');
  if ((await letters()).length > 0) violations.push('there are dead letters');
  const open = await plain.readWindows(KEY, 'claimed', undefined, 100);
  if (open.windows.length > 0) violations.push(`${open.windows.length} windows are left`);
  const rows = (await plain.listState(KEY, undefined, { rows: 1_000, bytes: 1e9 })).rows.map(({ slot }) => slot);
  const kept = [...right].flatMap(([key, windows]) => [`c/${key}/${windows.length - 1}`, `k/${key}`]).sort();
  if (right.size > 0) kept.push('q/');
  if (rows.join(' ') !== kept.join(' ')) violations.push(`rows ${rows.join(' ')} and not ${kept.join(' ')}`);
  return { calls: life.calls, violations };
}

/** Messages of several keys, numbered by key. */
function numbered(keys: readonly string[]): readonly string[] {
  const counts = new Map<string, number>();
  return keys.map((key) => {
    const n = (counts.get(key) ?? 0) + 1;
    counts.set(key, n);
    return `${key}${n}`;
  });
}

const plan: fc.Arbitrary<Plan> = fc
  .record({
    keys: fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: 14 }),
    workers: fc.integer({ min: 1, max: 3 }),
    size: fc.integer({ min: 1, max: 5 }),
    readAhead: fc.constantFrom(1, 3, 1_200),
    kills: fc.array(
      fc.record({ call: fc.integer({ min: 1, max: 40 }), when: fc.constantFrom('before' as const, 'after' as const) }),
      { maxLength: 3 },
    ),
    failing: fc.array(fc.nat({ max: 13 }), { maxLength: 2 }),
  })
  .map(({ keys, failing, ...rest }) => {
    const data = numbered(keys);
    const windows = [...pairsOf(data).values()].flat();
    const chosen = failing.flatMap((index) => windows[index] ?? []);
    return { data, ...rest, failing: Object.fromEntries(chosen.map((content) => [content, 2])) };
  });

describe('windows of rows, with kills at calls of the store', () => {
  it('are all handled, in the order of their keys, with one id each', { timeout: RUNS * 2_000 + 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(plan, async (given) => {
        expect((await live(given)).violations).toEqual([]);
      }),
      { numRuns: RUNS },
    );
  });

  it.each(['before', 'after'] as const)('survive a kill %s each call', { timeout: 120_000 }, async (when) => {
    const given: Plan = {
      ...{ data: numbered(['a', 'b', 'a', 'a', 'b']), workers: 2, size: 3, readAhead: 3 },
      ...{ kills: [], failing: { 'a1,a2': 1 } },
    };
    const { calls, violations } = await live(given);
    expect(violations).toEqual([]);
    for (let call = 1; call <= Math.min(calls, 60); call += 1) {
      expect([call, (await live({ ...given, kills: [{ call, when }] })).violations]).toEqual([call, []]);
    }
  });
});
