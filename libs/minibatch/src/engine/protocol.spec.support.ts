import { setImmediate as turn } from 'node:timers/promises';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { type StoreCall, wrapStore } from '../testing/wrapped-store.js';
import { Process, STREAM } from './process.spec.support.js';
import { Consumers } from './protocol-consumers.spec.support.js';
import { CountingClock, emptySlot, type Planted, type Slot, Store } from './protocol-doubles.spec.support.js';
import { ProtocolModel } from './protocol-model.spec.support.js';
import { type Plan, SLOTS, type Step } from './protocol-plan.spec.support.js';
import { LateEffects } from './protocol-stage.spec.support.js';
import { HiddenMessages } from './protocol-visibility.spec.support.js';

/**
 * A stream, its database, the processes that work on it. Everything is
 * deterministic: a plan always runs the same.
 */
export class World {
  private readonly database = new MemoryDatabase();
  private readonly store: Store;
  private readonly model: ProtocolModel;
  private readonly hidden: HiddenMessages;
  private readonly effects: LateEffects;
  private readonly consumers: Consumers;
  private readonly slots: Slot[] = [];
  private readonly gone: { process: Process; how: 'killed' | 'stopped' }[] = [];
  private time = Date.UTC(2026, 0, 1);

  constructor(
    private readonly plan: Plan,
    private readonly planted: Planted = {},
  ) {
    this.store = new Store(this.database, plan.totalOrder);
    this.effects = new LateEffects(this.database, planted.late);
    this.model = new ProtocolModel(this.database, plan.groups);
    this.hidden = new HiddenMessages(this.store);
    this.consumers = new Consumers(plan, planted, this.model, this.slots);
    for (let i = 0; i < SLOTS; i += 1) this.slots.push(emptySlot());
  }

  /** Lives through the plan and checks the model. Resolves with what was violated. */
  async live(): Promise<readonly string[]> {
    await this.store.ensureStream(STREAM);
    for (const name of this.model.groups.keys()) {
      await this.store.registerGroup({ stream: STREAM, group: name });
    }
    await this.start(0);
    for (const each of this.plan.steps) {
      await this.take(each);
      await turn();
      this.model.checkMessages();
      if (this.model.violations.length > 0) return this.model.violations;
    }
    await this.heal();
    if (this.model.violations.length === 0) await this.end();
    return this.model.violations;
  }

  private async take(given: Step): Promise<void> {
    const on = 'slot' in given ? (this.slots[given.slot] as Slot) : undefined;
    switch (given.do) {
      case 'append':
        return this.append(given, on as Slot);
      case 'reveal':
        return this.hidden.reveal();
      case 'advance':
        return this.advance(given.ms);
      case 'start':
        return this.start(given.slot);
      case 'kill':
        return this.kill(given.slot);
      case 'stop':
        return this.stop(given.slot);
      case 'sleep':
        (on as Slot).asleep = on?.process !== undefined;
        return;
      case 'wake':
        (on as Slot).asleep = false;
        return;
      case 'jump':
        on?.process?.clock.jump(given.ms);
        return;
      case 'outage':
        if (on?.process) on.outage = { when: given.when, calls: given.calls };
        return;
      case 'hold':
        if (on?.process) on.hold = given.method;
        return;
      case 'answer':
        for (const proceed of on?.held.splice(0) ?? []) proceed();
        return;
      case 'resolve':
        if (!on?.asleep) for (const resolve of on?.hanging.splice(0) ?? []) resolve();
        return;
      case 'flush':
        return this.control({ flush: true }, on);
      case 'pause':
        return this.control({ paused: true }, on);
      case 'resume':
        return this.control({ paused: false }, on);
      case 'crashIn':
        return this.takeAll(crashIn(given));
      case 'usurpIn':
        return this.takeAll(usurpIn(given));
    }
  }

  private async takeAll(steps: readonly Step[]): Promise<void> {
    for (const each of steps) {
      await this.take(each);
      await turn();
      this.model.checkMessages();
    }
  }

  // ---- steps

  private async append(given: Extract<Step, { do: 'append' }>, on: Slot): Promise<void> {
    const created = new Date(on.process?.clock.now() ?? this.time);
    const first = this.model.appended.size + 1;
    const values = Array.from({ length: given.count }, (_, index) => first + index);
    const outcomes = await this.store.append(values.map((data) => ({ stream: STREAM, data, created })));
    outcomes.forEach((outcome, index) => {
      if (outcome.status !== 'stored') throw new Error('append failed');
      this.model.appended.set(outcome.id, values[index] as number);
      if (this.plan.totalOrder || index % 3 !== given.hidden) return;
      this.hidden.hide(outcome.id);
      this.model.late.add(outcome.id);
    });
    if (given.wakes && !on.asleep) on.process?.engine.wake(STREAM);
  }

  private async appendGood(): Promise<void> {
    const on = this.slots[0] as Slot;
    while (this.consumers.isBad(this.model.appended.size + 1)) {
      await this.append({ do: 'append', slot: 0, count: 1, hidden: 3, wakes: false }, on);
    }
    await this.append({ do: 'append', slot: 0, count: 1, hidden: 3, wakes: true }, on);
  }

  private async advance(ms: number): Promise<void> {
    // In slices, or else each process would live through the time alone.
    for (let rest = ms; rest > 0 && this.model.violations.length === 0; rest -= SLICE) {
      const slice = Math.min(rest, SLICE);
      this.time += slice;
      for (const { process, asleep } of this.slots) {
        if (!process) continue;
        if (asleep) process.clock.sleep(slice);
        else await this.pass(process, slice);
      }
    }
  }

  private async pass(process: NonNullable<Slot['process']>, ms: number): Promise<void> {
    await process.clock.advance(ms);
    const timers = process.clock.scheduled;
    if (timers > 60 + ms / 5) this.model.violate(`${timers} timers within ${ms} ms`);
  }

  private async start(index: number): Promise<void> {
    const on = this.slots[index] as Slot;
    if (on.process) return;
    Object.assign(on, emptySlot(), { held: on.held });
    const bare = this.plan.late || this.planted.late ? this.effects.wrap(this.store) : this.store;
    const shared = wrapStore(bare, (call) => this.hidden.answer(call));
    const store = this.planted.store?.(shared, this.database) ?? shared;
    const clock = new CountingClock(this.time);
    const process = new Process(this.database, {
      clock,
      store,
      around: (call) => this.onTheWay(on, process, call),
      engine: { readAhead: this.plan.readAhead },
    }) as NonNullable<Slot['process']>;
    on.process = process;
    for (const [name, { plan: each }] of this.model.groups) this.consumers.consume(on, process, name, each);
    void process.start();
    await turn();
  }

  private kill(index: number): void {
    const on = this.slots[index] as Slot;
    const { process } = on;
    if (!process) return;
    process.kill();
    this.gone.push({ process, how: 'killed' });
    // What was on its way may still arrive.
    this.slots[index] = { ...emptySlot(), held: on.held };
    on.held = [];
    delete on.process;
  }

  private async stop(index: number): Promise<void> {
    const on = this.slots[index] as Slot;
    const { process, asleep } = on;
    if (!process || asleep) return;
    await this.stopped(process, 3_000);
    this.gone.push({ process, how: 'stopped' });
    this.slots[index] = { ...emptySlot(), held: on.held };
    on.held = [];
    delete on.process;
  }

  private async stopped(process: Process, timeout: number): Promise<void> {
    let ended = false;
    process.started = false;
    const stopping = process.engine.stop(timeout).then(() => (ended = true));
    for (let i = 0; i < 20 && !ended; i += 1) await process.clock.advance(2_000);
    if (!ended) this.model.violate(`stop(${timeout}) did not end`);
    else await stopping;
  }

  private async control(change: { flush: true } | { paused: boolean }, on?: Slot): Promise<void> {
    await this.store.updateStream(STREAM, change);
    if (on?.process && !on.asleep) void on.process.engine.refresh(STREAM).catch(() => undefined);
  }

  // ---- the way to the database

  private async onTheWay(on: Slot, process: Process, call: StoreCall): Promise<unknown> {
    const alive = on.process === process;
    if (alive && on.hold === call.method) {
      delete on.hold;
      await new Promise<void>((resolve) => on.held.push(resolve));
    }
    const { outage } = on;
    if (!alive || !outage || outage.calls <= 0) return this.model.observe(on.finished, call);
    outage.calls -= 1;
    if (outage.when === 'after') await this.model.observe(on.finished, call).catch(() => undefined);
    throw new MinibatchError(ErrorCode.StoreUnavailable, 'planted');
  }

  // ---- the end

  /** Everything is well again: from now on time alone must bring it to its end. */
  private async heal(): Promise<void> {
    this.consumers.heal();
    this.hidden.reveal();
    await this.control({ paused: false });
    for (const on of this.slots) {
      on.asleep = false;
      delete on.outage;
      delete on.hold;
      for (const proceed of on.held.splice(0)) proceed();
      for (const resolve of on.hanging.splice(0)) resolve();
    }
    await turn();
    if (!this.slots.some(({ process }) => process)) await this.start(0);
    const tails = this.plan.groups.some(({ kind }) => kind === 'count');
    // Many bad messages, each alone in its window, take their time one after the other: only what does not move is stuck.
    const ids = [...this.model.appended.keys()];
    const waitingNow = () =>
      [...this.model.groups.values()].reduce(
        (sum, { committed }) => sum + ids.filter((id) => !committed.has(id)).length,
        0,
      );
    let moved = 0;
    let waitingThen = waitingNow();
    for (let slices = 0; slices - moved < HEALING / SLICE && this.model.violations.length === 0; slices += 1) {
      // What is bad and alone is given up when something good has got through after it.
      if (this.plan.poison > 0 && slices % 8 === 7) await this.appendGood();
      if (tails && slices % 4 === 0) {
        await this.control({ flush: true }, this.slots[0]);
        await turn();
      }
      await this.advance(SLICE);
      if (this.isDone()) return;
      const still = waitingNow();
      if (still < waitingThen) moved = slices;
      waitingThen = still;
    }
    if (this.model.violations.length > 0) return;
    const waiting = [...this.model.groups].map(([name, { committed }]) => `${name}: ${committed.size}`).join(', ');
    const states = this.slots.map(({ process }) => JSON.stringify(process?.engine.status() ?? null)).join('\n');
    this.model.violate(`stuck: of ${this.model.appended.size} messages are committed ${waiting}\n${states}`);
  }

  private isDone(): boolean {
    const stream = this.database.streams.get(STREAM);
    const isSettled = [...this.model.groups.keys()].every((name) => this.model.consumer(name)?.windows.size === 0);
    return stream?.messages.size === 0 && isSettled;
  }

  private async end(): Promise<void> {
    await this.advance(SLICE);
    for (const [name, { committed }] of this.model.groups) {
      if (committed.size !== this.model.appended.size)
        this.model.violate(`${name} committed ${committed.size} of ${this.model.appended.size}`);
    }
    this.model.checkEffects();
    for (const { process } of this.slots) {
      if (!process) continue;
      await this.settles(process, '');
    }
    for (const { process } of this.slots) {
      if (!process) continue;
      await this.stopped(process, 3_000);
      await this.settles(process, ' after a stop');
    }
    for (const { process, how } of this.gone) if (how === 'killed') await this.stopped(process, 3_000);
  }

  private async settles(process: Process, when: string): Promise<void> {
    let settled = false;
    void process.engine.settled().then(() => (settled = true));
    for (let i = 0; i < 20 && !settled; i += 1) await turn();
    if (!settled) this.model.violate(`never settles${when}`);
  }
}

/** Healing may go so long without a commit, milliseconds: a clock that was set back has to come to where it was. */
const HEALING = 900_000;
const SLICE = 2_500;

/** A step that brings a process into the middle of a call. */
type Interruption = Extract<Step, { do: 'crashIn' | 'usurpIn' }>;

/** The process is cut off in the middle of a call, which may still reach the database. */
function crashIn({ slot, method, count }: Interruption): readonly Step[] {
  return [
    { do: 'start', slot },
    { do: 'hold', slot, method },
    { do: 'append', slot, count, hidden: 3, wakes: true },
    { do: 'advance', ms: 3_000 },
    { do: 'kill', slot },
  ];
}

/** The process is stopped in the middle of a call; another takes over; then the call continues. */
function usurpIn({ slot, method, count }: Interruption): readonly Step[] {
  return [
    { do: 'start', slot },
    { do: 'hold', slot, method },
    { do: 'append', slot, count, hidden: 3, wakes: true },
    { do: 'advance', ms: 1_000 },
    { do: 'sleep', slot },
    { do: 'start', slot: (slot + 1) % SLOTS },
    { do: 'advance', ms: 20_000 },
    { do: 'answer', slot },
    { do: 'wake', slot },
  ];
}
