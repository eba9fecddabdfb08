import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { InlineExecutor } from '../executors/inline.executor.js';
import { delay } from '../common/clock.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { MessageId, StreamStore, WindowRecord } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { type StoreCall, wrapStore } from '../testing/wrapped-store.js';
import { CountWindow } from '../windows/count.window.js';
import { FixedTimeWindow } from '../windows/fixed-time.window.js';
import { RelaxedTimeWindow } from '../windows/relaxed-time.window.js';
import { type MessageView, WindowEmitter } from '../windows/window-emitter.js';
import type { Window } from '../windows/window.js';
import { Process, STREAM } from './process.spec.support.js';

// ---- what happens: drawn by fast-check

const METHODS = [
  ...([
    'acquireLease',
    'renewLeases',
    'readLeases',
    'releaseLease',
    'recover',
    'fetch',
    'fetchByTime',
    'scan',
  ] as const),
  ...(['load', 'claim', 'commit', 'settle', 'reschedule', 'poll', 'listStreams', 'registerGroup'] as const),
];
const SLOTS = 3;
const slot = fc.integer({ min: 0, max: SLOTS - 1 });
const JUMP = 300_000;

const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('append' as const),
      slot,
      count: fc.oneof(
        { weight: 12, arbitrary: fc.integer({ min: 1, max: 7 }) },
        { weight: 1, arbitrary: fc.constant(140) },
      ),
      /** Those of the call whose remainder by 3 is this appear later: ids of other producers, written before and acknowledged after. */
      hidden: fc.integer({ min: 0, max: 8 }),
      wakes: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('reveal' as const) }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('advance' as const), ms: fc.integer({ min: 1, max: 18_000 }) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('start' as const), slot }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('kill' as const), slot }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('stop' as const), slot }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('sleep' as const), slot }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('wake' as const), slot }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('jump' as const), slot, ms: fc.constantFrom(-JUMP, JUMP) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('outage' as const),
      slot,
      when: fc.constantFrom('before' as const, 'after' as const),
      calls: fc.integer({ min: 1, max: 12 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('hold' as const), slot, method: fc.constantFrom(...METHODS) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('answer' as const), slot }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('resolve' as const), slot }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('flush' as const), slot }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('pause' as const), slot }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('resume' as const), slot }) },
  // What takes several steps in a row and would seldom come about by chance.
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom('crashIn' as const, 'usurpIn' as const),
      slot,
      method: fc.constantFrom('claim', 'commit', 'settle', ...METHODS),
      count: fc.integer({ min: 1, max: 7 }),
    }),
  },
);
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

const group = fc.record({
  kind: fc.constantFrom('count', 'wait', 'relaxed', 'fixed', 'own'),
  size: fc.integer({ min: 1, max: 5 }),
  interval: fc.integer({ min: 500, max: 4_000 }),
  workers: fc.integer({ min: 1, max: 3 }),
  sinks: fc.integer({ min: 0, max: 2 }),
  maxSize: fc.constantFrom(2, 10_000),
  empty: fc.boolean(),
});
type GroupPlan = typeof group extends fc.Arbitrary<infer G> ? G : never;

/** A run: its groups, what becomes of its handlers and sinks one after the other, and what happens to it. */
export const plan = fc.record({
  groups: fc.array(group, { minLength: 1, maxLength: 2 }),
  readAhead: fc.constantFrom(3, 10, 120),
  /** Without it messages come in among others that have been read. */
  totalOrder: fc.boolean(),
  /** So many runs fail in a row at the beginning: windows are set aside. */
  outage: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: 6, max: 40 }) }),
  /** Multiples of it always fail; none if 0. */
  poison: fc.constantFrom(0, 0, 0, 4, 9),
  handlers: fc.array(
    fc.oneof(
      { weight: 5, arbitrary: fc.constant('ok' as const) },
      { weight: 2, arbitrary: fc.constant('fail' as const) },
      { weight: 2, arbitrary: fc.constant('hang' as const) },
      { weight: 2, arbitrary: fc.constant('slow' as const) },
    ),
    { maxLength: 20 },
  ),
  puts: fc.array(fc.boolean(), { maxLength: 12 }),
  steps: fc.array(step, { minLength: 4, maxLength: 40, size: 'max' }),
});
export type Plan = typeof plan extends fc.Arbitrary<infer P> ? P : never;

/** A fault under test, planted between the engine and the rest. */
export interface Planted {
  /** Of each process's way to the database. */
  readonly store?: (store: StreamStore, database: MemoryDatabase) => StreamStore;
  /** The handler runs on, and its window counts as handled at once. */
  readonly hastyExecutor?: boolean;
}

// ---- parts of the simulation

/** Fewer polls than the real one has: a simulated second is not to cost more than it must. */
class Store extends MemoryStreamStore {
  override readonly polling = { busy: 400, idle: 2_000 };

  constructor(
    database: MemoryDatabase,
    override readonly totalOrder: boolean,
  ) {
    super(database);
  }
}

/** No slice of time takes so many timers. */
const MOST_TIMERS = 5_000;

/** Counts timers, to see loops that never rest. Such a loop gets no more timers, so that its plan ends and can be named. */
class CountingClock extends VirtualClock {
  scheduled = 0;

  override schedule(ms: number, callback: () => void): () => void {
    this.scheduled += 1;
    return this.scheduled > MOST_TIMERS ? () => undefined : super.schedule(ms, callback);
  }

  override async advance(ms: number): Promise<void> {
    this.scheduled = 0;
    await super.advance(ms);
  }
}

/** Takes the even ones first, and what is old, in reverse; drops every seventh. */
class Own extends WindowEmitter<number> {
  private pick(view: MessageView<number>) {
    const due = view.saturated || view.messages.some(({ seen }) => Math.abs(view.now - seen) >= 3_000);
    const drop = view.messages.filter(({ data }) => data % 7 === 0);
    const rest = view.messages.filter(({ data }) => data % 7 !== 0 && (due || data % 2 === 0));
    return { take: rest.slice(0, 3).toReversed(), drop };
  }
  windowReady(view: MessageView<number>): boolean {
    const { take, drop } = this.pick(view);
    return (
      take.length >= 2 || drop.length > 0 || (take.length > 0 && view.messages.some((m) => view.now - m.seen >= 3_000))
    );
  }
  query(view: MessageView<number>) {
    return this.pick(view);
  }
  override nextCheck(view: MessageView<number>): number | undefined {
    return view.first && Math.max(view.now + 1_000, view.first.seen + 3_000);
  }
}

interface Slot {
  process?: Process & { readonly clock: CountingClock };
  asleep: boolean;
  outage?: { readonly when: 'before' | 'after'; calls: number };
  hold?: StoreCall['method'];
  /** Calls on their way, which reach the database when these are called. */
  held: (() => void)[];
  /** Handlers that hang. */
  hanging: (() => void)[];
  /** Windows through their handlers and sinks. */
  finished: Set<string>;
  running: Map<string, Set<Window>>;
}

interface GroupState {
  readonly plan: GroupPlan;
  /** Messages of recorded commit points, and the window that each was in. */
  readonly committed: Map<MessageId, string>;
  /** Messages of windows that were taken apart, through their handler and sinks or given up. */
  readonly inParts: Set<MessageId>;
  /** Messages with which the handler has failed: others may get ahead of them. */
  readonly failed: Set<MessageId>;
  /** Ids of the windows in recorded commit points. */
  readonly recorded: Set<string>;
  readonly seqs: Map<string, WindowRecord>;
  /** Highest id of a claimed message, among those that were visible from the first. */
  readonly idsOfWindows: Map<string, string>;
}

/**
 * A stream, its database, the processes that work on it, and the model: what the contract allows. Everything is
 * deterministic: a plan always runs the same.
 */
export class World {
  readonly violations: string[] = [];
  private readonly database = new MemoryDatabase();
  private readonly store: Store;
  private readonly slots: Slot[] = [];
  private readonly groups = new Map<string, GroupState>();
  private readonly appended = new Map<MessageId, number>();
  private readonly hidden = new Set<MessageId>();
  private readonly late = new Set<MessageId>();
  private readonly gone: { process: Process; how: 'killed' | 'stopped' }[] = [];
  private reveals = 0;
  private time = Date.UTC(2026, 0, 1);
  private handlers: Plan['handlers'];
  private puts: Plan['puts'];

  constructor(
    private readonly plan: Plan,
    private readonly planted: Planted = {},
  ) {
    this.store = new Store(this.database, plan.totalOrder);
    this.handlers = [...Array.from({ length: plan.outage }, () => 'fail' as const), ...plan.handlers];
    this.puts = [...plan.puts];
    plan.groups.forEach((each, index) =>
      this.groups.set(`g${index}`, {
        plan: each,
        committed: new Map(),
        inParts: new Set(),
        failed: new Set(),
        recorded: new Set(),
        seqs: new Map(),
        idsOfWindows: new Map(),
      }),
    );
    for (let i = 0; i < SLOTS; i += 1) this.slots.push(emptySlot());
  }

  /** Lives through the plan and checks the model. Resolves with what was violated. */
  async live(): Promise<readonly string[]> {
    await this.store.ensureStream(STREAM);
    for (const name of this.groups.keys()) {
      await this.store.registerGroup({ stream: STREAM, group: name, partition: 0 });
    }
    await this.start(0);
    for (const each of this.plan.steps) {
      await this.take(each);
      await turn();
      this.checkMessages();
      if (this.violations.length > 0) return this.violations;
    }
    await this.heal();
    if (this.violations.length === 0) await this.end();
    return this.violations;
  }

  private async take(given: Step): Promise<void> {
    const on = 'slot' in given ? (this.slots[given.slot] as Slot) : undefined;
    switch (given.do) {
      case 'append':
        return this.append(given, on as Slot);
      case 'reveal':
        return this.reveal();
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
      // The process is stopped in the middle of a call; another takes over; then the call goes on.
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
      this.checkMessages();
    }
  }

  // ---- steps

  private async append(given: Extract<Step, { do: 'append' }>, on: Slot): Promise<void> {
    const created = new Date(on.process?.clock.now() ?? this.time);
    const first = this.appended.size + 1;
    const values = Array.from({ length: given.count }, (_, index) => first + index);
    const outcomes = await this.store.append(values.map((data) => ({ stream: STREAM, data, created })));
    outcomes.forEach((outcome, index) => {
      if (outcome.status !== 'stored') throw new Error('append failed');
      this.appended.set(outcome.id, values[index] as number);
      if (this.plan.totalOrder || index % 3 !== given.hidden) return;
      this.hidden.add(outcome.id);
      this.late.add(outcome.id);
    });
    if (given.wakes && !on.asleep) on.process?.engine.wake(STREAM);
  }

  private async appendGood(): Promise<void> {
    const on = this.slots[0] as Slot;
    while (this.isBad(this.appended.size + 1)) {
      await this.append({ do: 'append', slot: 0, count: 1, hidden: 3, wakes: false }, on);
    }
    await this.append({ do: 'append', slot: 0, count: 1, hidden: 3, wakes: true }, on);
  }

  private reveal(): void {
    if (this.hidden.size > 0) this.reveals += 1;
    this.hidden.clear();
  }

  private async advance(ms: number): Promise<void> {
    // In slices, or else each process would live through the time alone.
    for (let rest = ms; rest > 0 && this.violations.length === 0; rest -= SLICE) {
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
    if (timers > 60 + ms / 5) this.violate(`${timers} timers within ${ms} ms`);
  }

  private async start(index: number): Promise<void> {
    const on = this.slots[index] as Slot;
    if (on.process) return;
    Object.assign(on, emptySlot(), { held: on.held });
    const shared = wrapStore(this.store, (call) => this.look(call));
    const store = this.planted.store?.(shared, this.database) ?? shared;
    const clock = new CountingClock(this.time);
    const process = new Process(this.database, {
      clock,
      store,
      around: (call) => this.onTheWay(on, process, call),
      engine: { readAhead: this.plan.readAhead },
    }) as NonNullable<Slot['process']>;
    on.process = process;
    for (const [name, { plan: each }] of this.groups) this.consume(on, process, name, each);
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
    if (!ended) this.violate(`stop(${timeout}) did not end`);
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
    if (!alive || !outage || outage.calls <= 0) return this.observe(on, call);
    outage.calls -= 1;
    if (outage.when === 'after') await this.observe(on, call).catch(() => undefined);
    throw new MinibatchError(ErrorCode.StoreUnavailable, 'planted');
  }

  /** The model looks at what reaches the database. */
  private async observe(on: Slot, call: StoreCall): Promise<unknown> {
    switch (call.method) {
      case 'claim': {
        const result = await call.proceed();
        this.claimed(...(call.args as Parameters<StreamStore['claim']>));
        return result;
      }
      case 'commit': {
        const [lease, { finished }] = call.args as Parameters<StreamStore['commit']>;
        const consumer = this.consumer(lease.key.group);
        const holds = consumer?.fence === lease.fence && consumer.owner?.id === lease.owner.id;
        const windows = finished.map((seq) => consumer?.windows.get(seq));
        const result = await call.proceed();
        if (!holds) this.violate('a commit by a process that does not hold the lease');
        windows.forEach((window, index) => {
          if (window) this.commit(on, lease.key.group, lease.fence, window);
          else if (!this.groups.get(lease.key.group)?.seqs.has(`${lease.fence}/${finished[index]}`)) {
            this.violate(`a commit of window ${finished[index]}, which is not stored`);
          }
        });
        return result;
      }
      case 'reschedule': {
        const [{ key }, window] = call.args as Parameters<StreamStore['reschedule']>;
        const isThrough = window.split !== undefined && on.finished.has(window.id);
        const result = await call.proceed();
        // A window that was taken apart and went through in one piece: whoever takes it over has nothing left to handle.
        if (isThrough) for (const id of window.messageIds) this.groups.get(key.group)?.inParts.add(id);
        return result;
      }
      case 'bury': {
        const [{ key }, letters] = call.args as Parameters<StreamStore['bury']>;
        const result = await call.proceed();
        for (const { message } of letters) this.groups.get(key.group)?.inParts.add(message.id);
        return result;
      }
      case 'settle': {
        const [{ key }, windows] = call.args as Parameters<StreamStore['settle']>;
        for (const { window } of windows) {
          if (!this.groups.get(key.group)?.recorded.has(recordKey(window))) {
            this.violate(`settled before its commit point: ${window.id}`);
          }
        }
        return call.proceed();
      }
      default:
        return call.proceed();
    }
  }

  /** Messages that have not appeared yet are in no answer. */
  private async look(call: StoreCall): Promise<unknown> {
    const { hidden, store } = this;
    const isVisible = ({ id }: { id: MessageId }) => !hidden.has(id);
    switch (call.method) {
      case 'fetch': {
        const [key, after, limits] = call.args as Parameters<StreamStore['fetch']>;
        const more = { ...limits, messages: limits.messages + hidden.size };
        const { messages, full } = await store.fetch(key, after, more);
        const visible = messages.filter(isVisible).slice(0, limits.messages);
        return { messages: visible, full: full || visible.length >= limits.messages };
      }
      case 'fetchByTime': {
        const [key, range, after, limits] = call.args as Parameters<StreamStore['fetchByTime']>;
        const more = { ...limits, messages: limits.messages + hidden.size };
        const { messages, full } = await store.fetchByTime(key, range, after, more);
        const visible = messages.filter(isVisible).slice(0, limits.messages);
        return { messages: visible, full: full || visible.length >= limits.messages };
      }
      case 'scan': {
        const [key, after, until, limit] = call.args as Parameters<StreamStore['scan']>;
        const ids = await store.scan(key, after, until, limit + hidden.size);
        return ids.filter((id) => !hidden.has(id)).slice(0, limit);
      }
      case 'poll': {
        const tokens = (await call.proceed()) as string[];
        return tokens.map((token) => `${token}/${this.reveals}`);
      }
      default:
        return call.proceed();
    }
  }

  // ---- consumers

  private consume(on: Slot, process: Process, name: string, each: GroupPlan): void {
    const { kind, size, interval, workers, sinks, maxSize, empty } = each;
    const inline = new InlineExecutor();
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
      handler: (window) => this.handle(on, process, name, window),
      executor: this.planted.hastyExecutor
        ? {
            run: async (handler, window) => {
              void Promise.resolve(handler(window)).catch(() => undefined);
            },
          }
        : inline,
      sinks: Array.from({ length: sinks }, (_, index) => ({
        name: `sink${index}`,
        sink: { put: (_result, window) => this.put(on, process, window, sinks) },
      })),
    });
  }

  private async handle(on: Slot, process: Process, name: string, window: Window): Promise<unknown> {
    if (on.process !== process) return new Promise(() => undefined);
    const state = this.groups.get(name) as GroupState;
    this.sameId(
      state,
      window.id,
      window.messages.map(({ id }) => id),
    );
    const seen = window.messages.map(({ id }) => id);
    if (state.recorded.has(`${window.id}#${seen.length}`) && seen.length > 0) {
      this.violate(`${window.id} is handled after its commit point`);
    }
    if (window.signal.aborted) this.violate('a window is handled whose signal has aborted');
    const running = on.running.get(name) ?? new Set();
    on.running.set(name, running);
    running.add(window);
    const counted = [...running].filter(({ signal }) => !signal.aborted).length;
    if (counted > state.plan.workers) this.violate(`${counted} windows under way with ${state.plan.workers} workers`);
    try {
      const outcome = this.handlers.shift() ?? 'ok';
      if (outcome === 'fail' || window.data.some((value) => this.isBad(value as number))) {
        for (const id of seen) state.failed.add(id);
        throw new Error('planted');
      }
      if (outcome === 'hang') await new Promise<void>((resolve) => on.hanging.push(resolve));
      if (outcome === 'slow') await delay(process.clock, 2_500);
      if (on.process !== process) return await new Promise(() => undefined);
      if (state.plan.sinks > 0) return 'result';
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
    if (window.signal.aborted) this.violate('a put begins although the signal has aborted');
    if (this.puts.shift() === false) throw new Error('planted');
    const key = `${this.slots.indexOf(on)} ${window.group} ${window.id} ${window.attempt}`;
    const taken = (this.taken.get(key) ?? 0) + 1;
    this.taken.set(key, taken);
    if (taken >= sinks) this.finish(on, window);
  }

  private finish(on: Slot, window: Window): void {
    on.finished.add(window.id);
    if (!window.split) return;
    for (const { id } of window.messages) this.groups.get(window.group)?.inParts.add(id);
  }

  // ---- the model

  private violate(what: string): void {
    this.violations.push(what);
  }

  private consumer(name: string) {
    return this.database.streams.get(STREAM)?.consumer({ stream: STREAM, group: name, partition: 0 });
  }

  private sameId(state: GroupState, id: string, messageIds: readonly MessageId[]): void {
    if (messageIds.length === 0) return;
    const content = messageIds.toSorted().join();
    const known = state.idsOfWindows.get(content) ?? state.idsOfWindows.get(id);
    state.idsOfWindows.set(content, id);
    state.idsOfWindows.set(id, content);
    if (known !== undefined && known !== id && known !== content) this.violate(`${id}: other messages or another id`);
  }

  /** After a claim has reached the database. */
  private claimed(...[{ key }, windows]: Parameters<StreamStore['claim']>): void {
    const state = this.groups.get(key.group) as GroupState;
    for (const { id, messageIds } of windows) this.sameId(state, id, messageIds);
    const open = [...(this.consumer(key.group)?.windows.values() ?? [])].sort((a, b) => a.seq - b.seq);
    const ids = open.flatMap(({ messageIds }) => messageIds);
    if (new Set(ids).size !== ids.length) this.violate('a message is in two open windows');
    if (state.plan.kind === 'own' || state.plan.kind === 'fixed') return;
    const ordered = ids.filter((id) => !this.late.has(id));
    if (ordered.some((id, index) => index > 0 && id < (ordered[index - 1] as string)))
      this.violate('claimed out of order');
  }

  private commit(on: Slot, name: string, fence: number, window: WindowRecord): void {
    const state = this.groups.get(name) as GroupState;
    const at = `${fence}/${window.seq}`;
    // A repeated commit point: the answer to the first was lost.
    if (state.seqs.get(at)?.id === window.id) return;
    state.seqs.set(at, window);
    state.recorded.add(recordKey(window));
    const done = on.finished.has(window.id) || window.messageIds.every((id) => state.inParts.has(id));
    if (!window.dropped && !done) {
      this.violate(`${window.id} is committed before its handler and its sinks are through`);
    }
    for (const id of window.messageIds) {
      if (state.committed.has(id)) this.violate(`message ${id} is committed twice`);
      state.committed.set(id, window.id);
    }
    if (state.plan.kind === 'own' || state.plan.kind === 'fixed' || state.plan.workers > 1) return;
    // Strictly one after another, so nothing that was visible from the first is committed before what came before it, unless that
    // has failed and is set aside.
    const first = window.messageIds.find((id) => !this.late.has(id));
    if (first === undefined) return;
    for (const id of this.appended.keys()) {
      if (id >= first) break;
      if (this.late.has(id) || state.failed.has(id) || state.committed.has(id)) continue;
      this.violate(`${first} is committed before ${id}`);
    }
  }

  /** Nothing is lost: what a group has not committed is there for it. */
  private checkMessages(): void {
    const buffered = this.database.streams.get(STREAM)?.messages;
    for (const [name, { committed }] of this.groups) {
      for (const id of this.appended.keys()) {
        if (committed.has(id)) continue;
        const entry = buffered?.get(id);
        if (!entry || entry.doneBy.has(name)) this.violate(`message ${id} is lost for ${name}`);
      }
    }
  }

  // ---- the end

  /** Everything is well again: from now on time alone must bring it to its end. */
  private async heal(): Promise<void> {
    this.handlers = [];
    this.puts = [];
    this.reveal();
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
    const ids = [...this.appended.keys()];
    const waitingNow = () =>
      [...this.groups.values()].reduce((sum, { committed }) => sum + ids.filter((id) => !committed.has(id)).length, 0);
    let moved = 0;
    let waitingThen = waitingNow();
    for (let slices = 0; slices - moved < HEALING / SLICE && this.violations.length === 0; slices += 1) {
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
    if (this.violations.length > 0) return;
    const waiting = [...this.groups].map(([name, { committed }]) => `${name}: ${committed.size}`).join(', ');
    const states = this.slots.map(({ process }) => JSON.stringify(process?.engine.status() ?? null)).join('\n');
    this.violate(`stuck: of ${this.appended.size} messages are committed ${waiting}\n${states}`);
  }

  private isDone(): boolean {
    const stream = this.database.streams.get(STREAM);
    const isSettled = [...this.groups.keys()].every((name) => this.consumer(name)?.windows.size === 0);
    return stream?.messages.size === 0 && isSettled;
  }

  private async end(): Promise<void> {
    await this.advance(SLICE);
    for (const [name, { committed }] of this.groups) {
      if (committed.size !== this.appended.size)
        this.violate(`${name} committed ${committed.size} of ${this.appended.size}`);
    }
    for (const { process } of this.slots) {
      if (!process) continue;
      let settled = false;
      void process.engine.settled().then(() => (settled = true));
      for (let i = 0; i < 20 && !settled; i += 1) await turn();
      if (!settled) this.violate('never settles');
    }
    for (const { process } of this.slots) {
      if (!process) continue;
      await this.stopped(process, 3_000);
      let settled = false;
      void process.engine.settled().then(() => (settled = true));
      for (let i = 0; i < 20 && !settled; i += 1) await turn();
      if (!settled) this.violate('never settles after a stop');
    }
    for (const { process, how } of this.gone) if (how === 'killed') await this.stopped(process, 3_000);
  }
}

/** Healing may go so long without a commit, milliseconds: a clock that was set back has to come to where it was. */
const HEALING = 900_000;
const SLICE = 2_500;

function recordKey({ id, messageIds }: WindowRecord): string {
  return `${id}#${messageIds.length}`;
}

function emptySlot(): Slot {
  return { asleep: false, held: [], hanging: [], finished: new Set(), running: new Map() };
}
