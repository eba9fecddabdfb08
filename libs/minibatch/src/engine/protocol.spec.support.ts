import { setImmediate as turn } from 'node:timers/promises';
import { delay } from '../common/clock.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { type StoreCall, wrapStore } from '../testing/wrapped-store.js';
import { CountWindow } from '../windows/count.window.js';
import { FixedTimeWindow } from '../windows/fixed-time.window.js';
import { RelaxedTimeWindow } from '../windows/relaxed-time.window.js';
import type { WindowEmitter } from '../windows/window-emitter.js';
import type { Window } from '../windows/window.js';
import { Process, STREAM } from './process.spec.support.js';
import { CountingClock, emptySlot, Own, type Planted, type Slot, Store } from './protocol-doubles.spec.support.js';
import { type GroupState, ProtocolModel } from './protocol-model.spec.support.js';
import { type GroupPlan, type Plan, SLOTS, type Step } from './protocol-plan.spec.support.js';
import { chain, LateEffects, values } from './protocol-stage.spec.support.js';
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
  private readonly slots: Slot[] = [];
  private readonly gone: { process: Process; how: 'killed' | 'stopped' }[] = [];
  private time = Date.UTC(2026, 0, 1);
  private handlers: Plan['handlers'];
  private puts: Plan['puts'];

  constructor(
    private readonly plan: Plan,
    private readonly planted: Planted = {},
  ) {
    this.store = new Store(this.database, plan.totalOrder);
    this.effects = new LateEffects(this.database, planted.late);
    this.model = new ProtocolModel(this.database, plan.groups);
    this.hidden = new HiddenMessages(this.store);
    this.handlers = [...Array.from({ length: plan.outage }, () => 'fail' as const), ...plan.handlers];
    this.puts = [...plan.puts];
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
      // The process is cut off in the middle of a call, which may still reach the database.
      case 'crashIn':
        return this.takeAll([
          { do: 'start', slot: given.slot },
          { do: 'hold', slot: given.slot, method: given.method },
          { do: 'append', slot: given.slot, count: given.count, hidden: 3, wakes: true },
          { do: 'advance', ms: 3_000 },
          { do: 'kill', slot: given.slot },
        ]);
      // The process is stopped in the middle of a call; another takes over; then the call continues.
      case 'usurpIn':
        return this.takeAll([
          { do: 'start', slot: given.slot },
          { do: 'hold', slot: given.slot, method: given.method },
          { do: 'append', slot: given.slot, count: given.count, hidden: 3, wakes: true },
          { do: 'advance', ms: 1_000 },
          { do: 'sleep', slot: given.slot },
          { do: 'start', slot: (given.slot + 1) % SLOTS },
          { do: 'advance', ms: 20_000 },
          { do: 'answer', slot: given.slot },
          { do: 'wake', slot: given.slot },
        ]);
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
    while (this.isBad(this.model.appended.size + 1)) {
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
    for (const [name, { plan: each }] of this.model.groups) this.consume(on, process, name, each);
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

  // ---- consumers

  private consume(on: Slot, process: Process, name: string, each: GroupPlan): void {
    const { kind, size, interval, workers, sinks, maxSize, empty } = each;
    if (kind === 'stage') return this.runStage(on, process, name, each);
    process.consumer({
      group: name,
      workers,
      maxSize,
      lookAhead: kind === 'own' ? 15 : 10_000,
      retry: { base: 500, max: 4_000, jitter: 0, attempts: 5 },
      ...(kind === 'count' || kind === 'wait' ? { size, emitter: new CountWindow() } : {}),
      ...(kind === 'count' || kind === 'own' ? {} : { interval }),
      ...(kind === 'relaxed' ? { emitter: new RelaxedTimeWindow() } : {}),
      ...(kind === 'fixed' ? { emitter: new FixedTimeWindow() } : {}),
      ...(kind === 'own' ? { emitter: new Own() as WindowEmitter } : {}),
      empty,
      handler: this.planted.hastyHandler
        ? (window) => {
            void this.handle(on, process, name, window).catch(() => undefined);
          }
        : (window) => this.handle(on, process, name, window),
      sinks: Array.from({ length: sinks }, (_, index) => ({
        name: `sink${index}`,
        sink: { put: (_result, window) => this.put(on, process, window, sinks) },
      })),
    });
  }

  private runStage(on: Slot, process: Process, name: string, { size, interval }: GroupPlan): void {
    process.consumer({
      group: name,
      size,
      interval,
      retry: { base: 500, max: 4_000, jitter: 0, attempts: 5 },
      stage: {
        values,
        cacheBytes: this.plan.cache,
        run: async (window, changes) => {
          for (const message of window.messages) {
            if (!this.isBad(message.data as number)) continue;
            this.model.groups.get(name)?.rejected.add(message.id);
            window.reject(message, new Error('planted'));
          }
          const run = chain(name, window, changes);
          await this.handle(on, process, name, window);
          await run;
        },
      },
    });
  }

  private async handle(on: Slot, process: Process, name: string, window: Window): Promise<unknown> {
    if (on.process !== process) return new Promise(() => undefined);
    const state = this.model.groups.get(name) as GroupState;
    this.model.sameId(
      state,
      window.id,
      window.messages.map(({ id }) => id),
    );
    const seen = window.messages.map(({ id }) => id);
    if (state.recorded.has(`${window.id}#${seen.length}`) && seen.length > 0) {
      this.model.violate(`${window.id} is handled after its commit point`);
    }
    if (window.signal.aborted) this.model.violate('a window is handled whose signal has aborted');
    const running = on.running.get(name) ?? new Set();
    on.running.set(name, running);
    running.add(window);
    const counted = [...running].filter(({ signal }) => !signal.aborted).length;
    const workers = state.plan.kind === 'stage' ? 1 : state.plan.workers;
    if (counted > workers) this.model.violate(`${counted} windows in flight with ${workers} workers`);
    try {
      const outcome = this.handlers.shift() ?? 'ok';
      const isStage = state.plan.kind === 'stage';
      if (outcome === 'fail' || (!isStage && window.data.some((value) => this.isBad(value as number)))) {
        for (const id of seen) state.failed.add(id);
        throw new Error('planted');
      }
      if (outcome === 'hang') await new Promise<void>((resolve) => on.hanging.push(resolve));
      if (outcome === 'slow') await delay(process.clock, 2_500);
      if (on.process !== process) return await new Promise(() => undefined);
      if (state.plan.sinks > 0 && !isStage) return 'result';
      this.finish(on, window);
      return undefined;
    } finally {
      running.delete(window);
    }
  }

  private isBad(value: number): boolean {
    return this.plan.poison > 0 && value % this.plan.poison === 0;
  }

  private readonly taken = new Map<string, number>();

  private async put(on: Slot, process: Process, window: Window, sinks: number): Promise<void> {
    if (on.process !== process) return new Promise(() => undefined);
    if (window.signal.aborted) this.model.violate('a put begins although the signal has aborted');
    if (this.puts.shift() === false) throw new Error('planted');
    const key = `${this.slots.indexOf(on)} ${window.group} ${window.id} ${window.attempt}`;
    const taken = (this.taken.get(key) ?? 0) + 1;
    this.taken.set(key, taken);
    if (taken >= sinks) this.finish(on, window);
  }

  private finish(on: Slot, window: Window): void {
    on.finished.add(window.id);
    if (!window.split) return;
    for (const { id } of window.messages) this.model.groups.get(window.group)?.inParts.add(id);
  }

  // ---- the end

  /** Everything is well again: from now on time alone must bring it to its end. */
  private async heal(): Promise<void> {
    this.handlers = [];
    this.puts = [];
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
