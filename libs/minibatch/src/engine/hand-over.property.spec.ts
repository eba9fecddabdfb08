import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { delay } from '../common/clock.js';
import type { LeaseStore } from '../storage/stream-store.interface.js';
import { Fleet, names } from './fleet.spec.support.js';
import { LEASE, type Process, STREAM } from './process.spec.support.js';

/** `FC_RUNS=1000` for a long search; `FC_SEED` (and `FC_PATH`) repeat one that failed. */
const RUNS = Number(process.env['FC_RUNS'] ?? 25);
const options = {
  ...(process.env['FC_SEED'] ? { seed: Number(process.env['FC_SEED']) } : {}),
  ...(process.env['FC_PATH'] ? { path: process.env['FC_PATH'] } : {}),
};
/** The handler's longest time; a stop waits for it. Milliseconds. */
const LONGEST = 4_000;
const MOST_MEMBERS = 6;
const LEASE_CALLS: ReadonlySet<string> = new Set<keyof LeaseStore>([
  'readLeases',
  'acquireLease',
  'requestLease',
  'renewLeases',
  'releaseLease',
]);

const index = fc.nat({ max: MOST_MEMBERS - 1 });
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('join' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('kill' as const), index }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('stop' as const), index }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('append' as const), count: fc.integer({ min: 1, max: 6 }) }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.integer({ min: 250, max: LEASE }) }) },
);
const plan = fc.record({
  consumers: fc.integer({ min: 1, max: 9 }),
  kills: fc.boolean(),
  /** How long calls that concern leases take, one after the other: a slow server. */
  latencies: fc.array(fc.nat({ max: 2_000 }), { maxLength: 7 }),
  /** Milliseconds. The shortest takes most hand-overs for stuck. */
  handover: fc.constantFrom(1, 10_000),
  times: fc.array(fc.nat({ max: LONGEST }), { minLength: 1, maxLength: 12 }),
  steps: fc.array(step, { minLength: 5, maxLength: 25 }),
});
type Plan = typeof plan extends fc.Arbitrary<infer P> ? P : never;

/** Replicas that come and go, and what their handlers were given. */
class Coming {
  readonly violations: string[] = [];
  private readonly fleet: Fleet;
  private readonly handled = new Map<string, { readonly value: number; readonly by: Process }[]>();
  private readonly running = new Map<string, Process>();
  /** What a process that was killed had begun and not committed. */
  private readonly excused = new Map<string, Set<number>>();
  private readonly dead = new Set<Process>();
  private times: readonly number[] = [];
  private calls = 0;
  private appended = 0;

  constructor(private readonly plan: Plan) {
    this.fleet = new Fleet(names(plan.consumers), (group, by) => ({
      size: 1,
      handler: ({ data }) => this.handle(group, by, data[0] as number),
    }));
  }

  async live(): Promise<readonly string[]> {
    await this.join();
    for (const each of this.plan.steps) await this.take(each);
    if (this.fleet.members.length === 0) await this.join();
    await this.end();
    await this.fleet.stopAll();
    return this.violations;
  }

  private async join(): Promise<void> {
    const { latencies, handover } = this.plan;
    await this.fleet.join({
      engine: { handover },
      around: async (call) => {
        const latency = LEASE_CALLS.has(call.method) && latencies[(this.calls += 1) % latencies.length];
        if (latency) await delay(this.fleet.clock, latency);
        return call.proceed();
      },
    });
  }

  private async take(each: Plan['steps'][number]): Promise<void> {
    const { fleet } = this;
    const { members } = fleet;
    switch (each.do) {
      case 'join':
        if (members.length < MOST_MEMBERS) await this.join();
        return;
      case 'append':
        await fleet.append(...Array.from({ length: each.count }, () => (this.appended += 1)));
        return;
      case 'pass':
        return fleet.pass(each.ms);
      case 'stop': {
        const member = members[each.index % members.length];
        if (member) await fleet.stop(member, LONGEST + 1_000);
        return;
      }
      case 'kill': {
        const member = members[each.index % members.length];
        if (member && this.plan.kills) await this.kill(member);
      }
    }
  }

  private async kill(member: Process): Promise<void> {
    for (const group of this.fleet.groups) {
      const key = { stream: STREAM, group, partition: 0 };
      const { messages } = await this.fleet.store.fetch(key, undefined, { messages: 1_000, bytes: 2 ** 24 });
      const pending = new Set(messages.map(({ data }) => data as number));
      const excused = this.excused.get(group) ?? new Set();
      for (const { value, by } of this.handled.get(group) ?? [])
        if (by === member && pending.has(value)) excused.add(value);
      this.excused.set(group, excused);
      if (this.running.get(group) === member) this.running.delete(group);
    }
    this.dead.add(member);
    this.fleet.kill(member);
  }

  private async handle(group: string, by: Process, value: number): Promise<void> {
    if (this.dead.has(by)) return new Promise(() => undefined);
    if (this.running.has(group)) this.violations.push(`${group}: ${value} begins while another one runs`);
    const handled = this.handled.get(group) ?? [];
    const last = handled.at(-1)?.value ?? 0;
    const isAgain = handled.some((each) => each.value === value);
    // A process may be killed while one is committed and the next one has begun: then both come again.
    const isExcused = isAgain && this.excused.get(group)?.has(value);
    if (isAgain && !isExcused) this.violations.push(`${group}: ${value} is handled again`);
    if (value < last && !isExcused) this.violations.push(`${group}: ${value} comes after ${last}`);
    handled.push({ value, by });
    this.handled.set(group, handled);
    this.running.set(group, by);
    if (this.times.length === 0) ({ times: this.times } = this.plan);
    const [time = 0, ...rest] = this.times;
    this.times = rest;
    await delay(this.fleet.clock, time);
    if (this.running.get(group) === by) this.running.delete(group);
  }

  private async end(): Promise<void> {
    const { fleet } = this;
    const isDone = async () => (await fleet.buffered()) === 0;
    if (!(await fleet.comesTo(isDone, 4 * LEASE + this.appended * LONGEST))) this.violations.push('stuck');
    for (const group of fleet.groups) {
      const values = new Set(this.handled.get(group)?.map(({ value }) => value));
      if (values.size !== this.appended) this.violations.push(`${group} got ${values.size} of ${this.appended}`);
    }
    // Also after a process that was killed: its leases expire first.
    if (!(await fleet.comesTo(() => fleet.isFair, 5 * LEASE)))
      this.violations.push(`shares are ${fleet.shares.join(' ')}`);
    await fleet.pass(LEASE);
    const before = await fleet.fences();
    await fleet.pass(4 * LEASE);
    if ((await fleet.fences()).join() !== before.join()) this.violations.push('leases move without need');
  }
}

describe('hand-overs', () => {
  it(
    'lose nothing, repeat nothing and keep the order, whoever comes and goes',
    { timeout: RUNS * 10_000 + 60_000 },
    async () => {
      await fc.assert(
        fc.asyncProperty(plan, async (given) => {
          expect(await new Coming(given).live()).toEqual([]);
        }),
        { numRuns: RUNS, ...options },
      );
    },
  );
});
