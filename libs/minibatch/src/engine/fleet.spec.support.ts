import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { LeaseState } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { type ConsumerChoice, LEASE, Process, type ProcessOptions, STREAM, turns } from './process.spec.support.js';

/** How often a candidate looks: a round. */
export const ROUND = LEASE / 6;
const STEP = 250;

/** Replicas of one application on one database, by one clock; each runs the same consumers, one for each group. */
export class Fleet {
  readonly clock = new VirtualClock();
  readonly members: Process[] = [];
  readonly database = new MemoryDatabase();
  readonly store = new MemoryStreamStore(this.database);

  constructor(
    readonly groups: readonly string[],
    private readonly choice: (group: string, member: Process) => ConsumerChoice = () => ({ size: 1 }),
  ) {}

  /** One more replica. */
  async join(options: ProcessOptions = {}, groups = this.groups): Promise<Process> {
    const made = new Process(this.database, { clock: this.clock, ...options });
    for (const group of groups) made.consumer({ group, ...this.choice(group, made) });
    this.members.push(made);
    await made.engine.start();
    made.started = true;
    return made;
  }

  async joinMany(count: number): Promise<void> {
    for (let n = 0; n < count; n += 1) await this.join();
  }

  kill(member: Process): void {
    member.kill();
    this.leave(member);
  }

  async stop(member: Process, timeout = 1_000): Promise<void> {
    const stopping = member.engine.stop(timeout);
    await this.pass(timeout + STEP);
    this.leave(member);
    // What hangs on the clock ends later than what it waits for.
    for (let ended = false; !ended;) {
      void stopping.then(() => (ended = true));
      await this.pass(STEP);
    }
  }

  async stopAll(): Promise<void> {
    for (const member of [...this.members]) await this.stop(member, 0);
  }

  private leave(member: Process): void {
    member.started = false;
    this.members.splice(this.members.indexOf(member), 1);
  }

  async pass(ms: number): Promise<void> {
    for (let rest = ms; rest > 0; rest -= STEP)
      await this.clock.advance(Math.min(rest, STEP), () => turns(() => false, 3));
  }

  /** Until it is so, and a lease time at most: what it takes to be fair again. Resolves with whether it came to be. */
  async comesTo(isSo: () => boolean | Promise<boolean>, most = LEASE): Promise<boolean> {
    for (let rest = most; rest > 0; rest -= STEP) {
      if (await isSo()) return true;
      await this.pass(STEP);
    }
    return isSo();
  }

  /** How many consumers each replica works for. */
  get shares(): readonly number[] {
    return this.members.map(({ engine }) => engine.status().filter(({ state }) => state !== 'standby').length);
  }

  /** Each consumer runs, and no replica has two more than another. */
  get isFair(): boolean {
    const { shares } = this;
    const sum = shares.reduce((a, b) => a + b, 0);
    return sum === this.groups.length && Math.max(...shares) - Math.min(...shares) <= 1;
  }

  leases(): Promise<readonly LeaseState[]> {
    return this.store.readLeases(this.groups.map((group) => ({ stream: STREAM, group, partition: 0 })));
  }

  /** Grows whenever a lease changes hands. */
  async fences(): Promise<readonly number[]> {
    return (await this.leases()).map(({ fence }) => fence);
  }

  async append(...data: unknown[]): Promise<void> {
    await this.store.append(data.map((item) => ({ stream: STREAM, data: item, created: new Date(this.clock.now()) })));
    for (const { engine } of this.members) engine.wake(STREAM);
  }

  async buffered(): Promise<number> {
    return (await this.store.stats([STREAM]))[0]?.buffered ?? 0;
  }
}

export function names(count: number): string[] {
  return Array.from({ length: count }, (_, n) => `g${n}`);
}
