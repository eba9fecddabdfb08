import type { Log } from '../common/log.js';
import { stackOf } from '../errors/error-text.js';
import { ErrorCode, MinibatchError, messageOf } from '../errors/minibatch.error.js';
import { shuttingDown } from '../errors/shutting-down.js';
import { Activity } from '../common/activity.js';
import { backoff } from '../common/backoff.js';
import { Ages } from '../common/ages.js';
import { type Clock, delay } from '../common/clock.js';
import { isDead, thisProcess } from '../common/process-identity.js';
import {
  consumerId,
  type ConsumerKey,
  type Lease,
  type LeaseOwner,
  type StreamInfo,
  type StreamStore,
} from '../storage/stream-store.interface.js';
import { Calls } from './calls.js';
import { ConsumerLoop } from './consumer-loop.js';
import { type WaitingConsumers, StreamControlPoller } from './stream-control-poller.js';
import { ConsumerCounters } from './counters.js';
import {
  type ConsumerDefinition,
  ConsumerState,
  type ConsumerStatus,
  type DrainResult,
  type Engine,
  type EngineOptions,
  type Retention,
  type WakeUpStatus,
} from './engine.interface.js';
import { EventLoopMonitor } from './event-loop-monitor.js';
import { LeaseKeeper } from './lease-keeper.js';
import { describePendingWork } from './pending-work.js';
import { type EngineParts, LeaseTerm } from './lease-term.js';
import { Sweeper, type SweptStream } from './sweeper.js';
import { type AwaitingConsumer, WakeUps } from './wake-ups.js';
import { Workers } from './workers.js';

export const DEFAULT_ENGINE_OPTIONS: EngineOptions = {
  leaseTime: 15_000,
  readAhead: 1_200,
  readAheadBytes: 16 * 1024 * 1024,
  dedupeTime: 24 * 60 * 60 * 1_000,
};

/** Waits between the tries of a round of leases or of a registration that the store did not answer. */
const ROUND_BACKOFF = { base: 250, max: 5_000, jitter: 0.3 };

/** A start waits so long for a store that does not answer; then it goes on in the background. Milliseconds. */
const START_WAIT = 5_000;
/**
 * A flush that was asked for while nobody held the lease is seen to by the next holder, if it has known the stream for no longer than
 * so many lease times.
 */
const FLUSH_MEMORY = 2;
/** What a stop waits for is told when it takes so long; milliseconds. */
const TELL_AFTER = 500;
const STOPPED_WAITING = 'stopping without waiting any longer';
/** Which method awaits the stop can't be known without following every promise of the process. */
const WAITS_FOR_ITSELF =
  '. A method that awaits stop(), disconnect() or app.close() waits for itself: call them there without await';
/** A stop waits so long for leases to be given back; milliseconds. */
const RELEASE_WAIT = 2_000;

/** One consumer of this process through all its terms. */
interface Consumer {
  readonly definition: ConsumerDefinition;
  readonly counters: ConsumerCounters;
  readonly calls: Calls;
  readonly workers: Workers;
  /** `counters.begun` at the last beat. */
  begun: number;
  /** True once the strategy has taken up its work: it is closed in the end. */
  initialised: boolean;
  /** How often the tail of its stream had been asked for when that was looked up last, and when that was, by the monotonic clock. */
  flushes?: { readonly count: number; readonly at: number };
  /** True if it was told to run, whether the engine was started or not. */
  asked: boolean;
  /** True once it was told to stop, by itself. */
  removed: boolean;
  /** Settles when its lease is given back and its strategy is closed. */
  leaving?: Promise<void>;
  /** Windows that were open when the lease was lost. */
  left?: number;
  current?: { readonly term: LeaseTerm; readonly loop: ConsumerLoop; readonly done: Promise<void> };
}

/**
 * The engine. Owns the consumers of this process: registers their groups, competes for their leases, and gives each a
 * `ConsumerLoop` for as long as it holds its lease.
 */
export class ConsumerEngine implements Engine {
  private readonly consumers = new Map<string, Consumer>();
  private readonly parts: EngineParts;
  private readonly keeper: LeaseKeeper;
  private readonly news: WakeUps;
  private readonly sweeper: Sweeper;
  private readonly controls: StreamControlPoller;
  private readonly heartbeat: EventLoopMonitor;
  /** By stream. */
  private readonly retentions = new Map<string, Retention>();
  private readonly activity = new Activity();
  private readonly stopping = new AbortController();
  private started = false;
  private operating = false;
  /** Ends the pause between two rounds of leases. */
  private roundNow: (() => void) | undefined;
  private rounds: Promise<void> = Promise.resolve();

  constructor(
    private readonly store: StreamStore,
    private readonly clock: Clock,
    private readonly log: Log,
    options: Partial<EngineOptions> = {},
    owner: LeaseOwner = thisProcess(),
  ) {
    const resolved = { ...DEFAULT_ENGINE_OPTIONS, ...options };
    this.keeper = new LeaseKeeper(store, clock, owner, resolved.leaseTime, isDead, {
      acquired: (key, lease, clean) => this.begin(key, lease, clean),
      lost: (key) => this.lost(key),
      wentTo: (key, other) => this.wentTo(key, other),
      missing: (key) => this.missing(key),
    });
    const caughtUp = () => this.news.pollSoon();
    this.parts = {
      store,
      clock,
      log,
      activity: this.activity,
      keeper: this.keeper,
      options: resolved,
      retention: (stream) => this.retentions.get(stream),
      ages: new Ages(clock),
      caughtUp,
    };
    this.sweeper = new Sweeper(store, clock, this.parts.ages, log, this.activity, resolved.dedupeTime, () =>
      this.swept(),
    );
    this.controls = new StreamControlPoller(
      store.polling,
      clock,
      this.activity,
      () => this.waiting(),
      (streams) => this.control(streams),
    );
    this.heartbeat = new EventLoopMonitor(clock, resolved.leaseTime, (late) => this.beat(late));
    this.news = new WakeUps(
      store,
      clock,
      log,
      this.activity,
      () => this.awaitingMessages(),
      () => this.running().map(({ definition }) => definition.key.stream),
      (stream) => this.wake(stream),
    );
  }

  add(definition: ConsumerDefinition): void {
    const consumer = this.enter(definition);
    if (!this.started || this.stopping.signal.aborted) return;
    this.register(consumer).catch((error: unknown) => this.registrationFailed(consumer, error));
  }

  async run(definition: ConsumerDefinition): Promise<void> {
    if (this.stopping.signal.aborted) throw shuttingDown(definition.label);
    const consumer = this.enter(definition);
    consumer.asked = true;
    const registered = this.register(consumer);
    try {
      await this.inTime(registered);
      if (this.stopping.signal.aborted) throw shuttingDown(definition.label);
    } catch (error) {
      this.consumers.delete(consumerId(definition.key));
      throw error;
    }
    registered.catch((error: unknown) => this.registrationFailed(consumer, error));
    this.operate();
  }

  private enter(definition: ConsumerDefinition): Consumer {
    const id = consumerId(definition.key);
    if (this.consumers.has(id)) {
      const { group, stream } = definition.key;
      throw new MinibatchError(
        ErrorCode.DuplicateGroup,
        `Group '${group}' of stream '${stream}' has a consumer already: ${this.consumers.get(id)?.definition.label}; ` +
          `give ${definition.label} a group of its own`,
      );
    }
    const consumer: Consumer = {
      definition,
      counters: new ConsumerCounters(),
      calls: new Calls(this.clock, definition.retry.max),
      workers: new Workers(definition.workers),
      begun: 0,
      initialised: false,
      asked: false,
      removed: false,
    };
    this.consumers.set(id, consumer);
    return consumer;
  }

  private registrationFailed({ definition, counters }: Consumer, error: unknown): void {
    counters.failed(this.clock.now(), error);
    this.log.error(`${definition.label}: ${messageOf(error)}`);
  }

  retain(stream: string, retention: Retention): void {
    this.retentions.set(stream, retention);
    this.sweeper.refresh();
  }

  async start(): Promise<void> {
    if (this.started || this.stopping.signal.aborted) return;
    this.started = true;
    const waiting = [...this.consumers.values()].filter(({ asked }) => !asked);
    const registered = Promise.all(waiting.map((consumer) => this.register(consumer)));
    await this.inTime(registered);
    registered.catch((error: unknown) => this.log.error(messageOf(error)));
    this.operate();
  }

  /** Waits for registrations, but no longer than a start may take. */
  private async inTime(registered: Promise<unknown>): Promise<void> {
    const enough = new AbortController();
    try {
      const end = AbortSignal.any([enough.signal, this.stopping.signal]);
      await Promise.race([registered, delay(this.clock, START_WAIT, end)]);
    } finally {
      enough.abort();
    }
  }

  /** Begins to compete for leases and to look for news, once. */
  private operate(): void {
    if (this.operating || this.stopping.signal.aborted) return;
    this.operating = true;
    this.news.start();
    this.controls.start();
    this.sweeper.start();
    this.heartbeat.start();
    this.rounds = this.goRound();
  }

  async stop(timeout: number, hurry?: AbortSignal): Promise<DrainResult> {
    this.stopping.abort();
    this.news.stop();
    this.controls.stop();
    this.sweeper.stop();
    this.heartbeat.stop();
    this.roundNow?.();
    const current = [...this.consumers.values()].flatMap(({ current: c }) => (c ? [c] : []));
    for (const { term } of current) term.closing.abort();

    const late = new AbortController();
    const all = Promise.all([this.rounds, ...current.map(({ done }) => done)]).then(() => late.abort());
    // Renewing goes on: a drain may take longer than a lease.
    const renewing = this.renewUntil(late.signal);
    const enough = hurry ? AbortSignal.any([late.signal, hurry]) : late.signal;
    void delay(this.clock, TELL_AFTER, enough).then(() => {
      if (!enough.aborted && timeout > TELL_AFTER)
        this.tell(`stopping, waiting for ${timeout} ms at the most for`, current);
    });
    await Promise.race([all, delay(this.clock, timeout, enough)]);
    if (!late.signal.aborted) this.tell(`${STOPPED_WAITING} for`, current, WAITS_FOR_ITSELF);
    const abandoned = current.reduce((sum, { term, loop }) => sum + (term.isOver ? 0 : loop.running), 0);
    for (const { term } of current) term.end();
    late.abort();

    const drained = current.reduce((sum, { loop }) => sum + loop.drained, 0);
    const left = new AbortController();
    // A renewal may still be under way; a store that never answers must not hold up the end.
    const leaving = Promise.all([renewing, ...[...this.consumers.values()].map((consumer) => this.leave(consumer))]);
    await Promise.race([leaving.then(() => left.abort()), delay(this.clock, RELEASE_WAIT, left.signal)]);
    for (const consumer of this.consumers.values()) delete consumer.current;
    return { drained, abandoned };
  }

  private tell(
    what: string,
    current: readonly { readonly term: LeaseTerm; readonly loop: ConsumerLoop }[],
    advice = '',
  ): void {
    const waiting = describePendingWork(current);
    if (waiting !== undefined) this.log.warn(`${what} ${waiting}${advice}`);
  }

  async remove(key: ConsumerKey, timeout: number): Promise<DrainResult> {
    const consumer = this.consumers.get(consumerId(key));
    // A stop of the engine sees to it.
    if (!consumer || this.stopping.signal.aborted) return { drained: 0, abandoned: 0 };
    consumer.removed = true;
    const { current } = consumer;
    let abandoned = 0;
    if (current) {
      const { term, loop } = current;
      term.closing.abort();
      await this.ended(current, timeout);
      abandoned = term.isOver ? 0 : loop.running;
      term.end();
    }
    await this.within(RELEASE_WAIT, this.leave(consumer));
    if (this.consumers.get(consumerId(key)) === consumer) this.consumers.delete(consumerId(key));
    this.news.follow();
    return { drained: current?.loop.drained ?? 0, abandoned };
  }

  /** Waits for the end of one consumer, and tells what it waits for. */
  private async ended(current: NonNullable<Consumer['current']>, timeout: number): Promise<void> {
    const { definition } = current.term;
    const over = new AbortController();
    void delay(this.clock, TELL_AFTER, over.signal).then(() => {
      if (!over.signal.aborted && timeout > TELL_AFTER)
        this.tell(`stopping ${definition.label}, waiting for ${timeout} ms at the most for`, [current]);
    });
    await this.within(
      timeout,
      current.done.finally(() => over.abort()),
    );
    if (!over.signal.aborted) this.tell(`${STOPPED_WAITING} for`, [current], WAITS_FOR_ITSELF);
    over.abort();
  }

  private async within(ms: number, work: Promise<void>): Promise<void> {
    const over = new AbortController();
    await Promise.race([work.finally(() => over.abort()), delay(this.clock, ms, over.signal)]);
  }

  wake(stream: string): void {
    for (const { definition, current } of this.consumers.values()) {
      if (definition.key.stream === stream) current?.loop.wake();
    }
    this.news.pollSoon();
  }

  async refresh(stream: string): Promise<void> {
    await this.activity.track(() => this.control([stream]));
  }

  status(): readonly ConsumerStatus[] {
    return [...this.consumers.values()].map((consumer) => this.statusOf(consumer));
  }

  wakeUps(): WakeUpStatus {
    return this.news.status;
  }

  settled(): Promise<void> {
    return this.activity.idle();
  }

  // ---- registration and leases

  /** Resolves after the first try; the others go on in the background. */
  private register(consumer: Consumer): Promise<void> {
    const { definition } = consumer;
    const attempt = async (): Promise<boolean> => {
      try {
        // A store that was closed is not opened again.
        if (this.stopping.signal.aborted) return true;
        await this.store.open();
        if (this.stopping.signal.aborted) return true;
        const { flushes } = await this.store.ensureStream(definition.key.stream);
        await this.store.registerGroup(definition.key, {
          timeOrder: this.readsByTime(definition),
          ...(definition.replaces === undefined ? {} : { replaces: definition.replaces }),
        });
        if (consumer.removed || this.stopping.signal.aborted) return true;
        consumer.flushes = { count: flushes, at: this.clock.monotonic() };
        this.keeper.add(definition.key);
        this.roundNow?.();
        return true;
      } catch (error) {
        if (this.stopping.signal.aborted) return true;
        if (error instanceof MinibatchError && error.code !== ErrorCode.StoreUnavailable) throw error;
        consumer.counters.failed(this.clock.now(), error);
        this.log.warn(`${definition.label}: can't register its group, trying again: ${messageOf(error)}`);
        return false;
      }
    };
    return this.activity.track(async () => {
      if (!(await attempt())) void this.registerLater(consumer, attempt);
    });
  }

  /** Messages that are too old are found by time, too. */
  private readsByTime({ timeOrder, key }: ConsumerDefinition): boolean {
    return timeOrder || this.retentions.get(key.stream)?.buffered !== undefined;
  }

  private async registerLater(consumer: Consumer, attempt: () => Promise<boolean>): Promise<void> {
    for (let failures = 1; ; failures += 1) {
      await delay(this.clock, backoff(ROUND_BACKOFF, failures), this.stopping.signal);
      if (consumer.removed || this.stopping.signal.aborted) return;
      try {
        if (await this.activity.track(attempt)) return;
      } catch (error) {
        this.log.error(messageOf(error));
        return;
      }
    }
  }

  private async goRound(): Promise<void> {
    for (let failures = 0; !this.stopping.signal.aborted;) {
      try {
        await this.activity.track(() => this.round());
        failures = 0;
      } catch (error) {
        failures += 1;
        if (failures === 1 && !this.stopping.signal.aborted)
          this.log.warn(`Can't renew leases, trying again: ${messageOf(error)}`);
      }
      if (!this.stopping.signal.aborted) {
        await this.rest(failures > 0 ? backoff(ROUND_BACKOFF, failures) : this.keeper.pause);
      }
    }
  }

  private async rest(ms: number): Promise<void> {
    const rest = new AbortController();
    this.roundNow = () => rest.abort();
    await delay(this.clock, ms, rest.signal);
    this.roundNow = undefined;
  }

  private async round(): Promise<void> {
    // Those that begin in this round read it for themselves.
    const streams = new Set(this.running().map(({ definition }) => definition.key.stream));
    await this.keeper.round();
    await this.control([...streams]);
  }

  private async renewUntil(signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted;) {
      await delay(this.clock, failures > 0 ? backoff(ROUND_BACKOFF, failures) : this.keeper.renewalPause, signal);
      if (signal.aborted) return;
      try {
        await this.keeper.renewDue();
        failures = 0;
      } catch {
        // Seen by whoever needs the lease next.
        failures += 1;
      }
    }
  }

  /** Reads what was asked of streams from any process: pause, resume, flush. */
  private async control(streams: readonly string[]): Promise<void> {
    if (streams.length === 0) return;
    const infos = await this.store.listStreams(streams);
    for (const info of infos) this.applyStreamControl(info);
    if (infos.length < streams.length)
      await this.remake(streams.filter((name) => !infos.some((info) => info.name === name)));
  }

  /** The records of the streams were dropped, and those of their consumers were not. */
  private async remake(streams: readonly string[]): Promise<void> {
    for (const { definition } of this.running()) {
      const { stream } = definition.key;
      if (!streams.includes(stream)) continue;
      this.log.warn(`${definition.label}: stream '${stream}' has gone from the store; making it again`);
      await this.store.ensureStream(stream);
      await this.store.registerGroup(definition.key, { timeOrder: this.readsByTime(definition) });
    }
  }

  private applyStreamControl({ name, paused, flushes, clearings = 0, requests = [] }: StreamInfo): void {
    for (const consumer of this.consumers.values()) {
      const { definition, current, flushes: known } = consumer;
      // One that does not run yet finds it when it begins.
      if (definition.key.stream !== name || !current) continue;
      consumer.flushes = { count: flushes, at: this.clock.monotonic() };
      current.loop.setPaused(paused);
      current.loop.setClearings(clearings);
      current.loop.setRequests(requests.filter(({ group }) => group === definition.key.group));
      if (known && flushes > known.count) current.loop.flush();
    }
  }

  private running() {
    return [...this.consumers.values()].flatMap(({ definition, counters, current }) =>
      current ? [{ definition, counters, current }] : [],
    );
  }

  private swept(): readonly SweptStream[] {
    const consumed = new Set(this.running().map(({ definition }) => definition.key.stream));
    return [...new Set([...consumed, ...this.retentions.keys()])].map((stream) => ({
      stream,
      consumed: consumed.has(stream),
      retention: this.retentions.get(stream) ?? {},
    }));
  }

  /** A handler that computes for long keeps the process from renewing its leases. */
  private beat(late: number): void {
    const isLate = late >= this.parts.options.leaseTime / 3;
    for (const consumer of this.consumers.values()) {
      const { definition, counters, current } = consumer;
      // Also one that has just ended: what it answered came before any timer.
      const worked = counters.begun > consumer.begun || (current?.loop.running ?? 0) > 0;
      consumer.begun = counters.begun;
      this.reportUnsettled(consumer);
      if (!isLate || !worked) continue;
      const holdTime = this.keeper.lengthen(definition.key, late);
      const error = new MinibatchError(
        ErrorCode.EventLoopBlocked,
        `${definition.label}: the event loop was blocked for ${Math.round(late)} ms while windows were under way, so the lease ` +
          `could not be renewed; from now on others wait for ${Math.round(holdTime)} ms before they take over. Let the method ` +
          'await now and then, or compute in a worker thread',
        { details: { ...definition.key, blocked: late, holdTime } },
      );
      counters.failed(this.clock.now(), error);
      this.log.warn(error.message);
    }
    if (isLate) this.roundNow?.();
  }

  /** Once for each. */
  private reportUnsettled({ calls, definition }: Consumer): void {
    for (const { window, sink, since, timedOut } of calls.takeNews()) {
      const option = sink === undefined ? 'timeout' : 'sinkTimeout';
      let advice = `If it hangs, retry.${option} says so to it (window.signal) and counts it as failed`;
      if (timedOut) {
        advice =
          definition.retry.onTimeout === 'abandon'
            ? `It has outlived retry.${option} and runs on beside the others (retry.onTimeout)`
            : `It has outlived retry.${option} and keeps its worker until it settles: let it look at window.signal`;
      }
      this.log.warn(
        `${definition.label}: ${sink === undefined ? 'its method' : `sink ${sink}`} has not settled for window ${window} since ` +
          `${since.toISOString()}. ${advice}`,
      );
    }
  }

  // ---- terms

  private begin(key: ConsumerKey, lease: Lease, clean: boolean): void {
    const consumer = this.consumers.get(consumerId(key));
    // The lease is given back when it leaves.
    if (!consumer || consumer.removed || this.stopping.signal.aborted) return;
    // What was asked for since, another holder may have seen to.
    const known = consumer.flushes;
    if (known && this.clock.monotonic() - known.at > FLUSH_MEMORY * this.parts.options.leaseTime)
      delete consumer.flushes;
    const term = new LeaseTerm(
      consumer.definition,
      lease,
      clean,
      consumer.counters,
      this.parts,
      consumer.calls,
      consumer.workers,
    );
    const loop = new ConsumerLoop(term);
    const done = this.serve(consumer, term, loop);
    consumer.current = { term, loop, done };
    this.news.follow();
  }

  private async serve(consumer: Consumer, term: LeaseTerm, loop: ConsumerLoop): Promise<void> {
    try {
      const { stream } = term.definition.key;
      await this.activity.track(() => term.persist('look up the stream', () => this.control([stream])));
      await loop.run();
    } catch (error) {
      if (!term.isOver) this.startAnew(consumer, term, error);
    }
    consumer.initialised ||= loop.initialised;
    if (!this.stopping.signal.aborted && consumer.current?.term === term) {
      delete consumer.current;
      this.news.follow();
    }
  }

  private startAnew(consumer: Consumer, term: LeaseTerm, error: unknown): void {
    consumer.counters.failed(this.clock.now(), error, ErrorCode.EmitterFailed);
    this.log.error(
      `${consumer.definition.label} can't work and starts anew in a while: ${messageOf(error)}`,
      stackOf(error),
    );
    term.end();
    // The lease is kept, unused, and runs out: another process may have better luck, and this one tries again.
    this.keeper.drop(term.lease);
  }

  private lost(key: ConsumerKey): void {
    const consumer = this.consumers.get(consumerId(key));
    const current = consumer?.current;
    if (!consumer || !current || current.term.isOver) return;
    consumer.left = current.loop.inFlight;
    current.term.end();
    // To whom, the next round sees.
    this.roundNow?.();
  }

  private wentTo(key: ConsumerKey, other: LeaseOwner | undefined): void {
    const consumer = this.consumers.get(consumerId(key));
    if (consumer?.left === undefined) return;
    const { definition, left } = consumer;
    const what = other
      ? `another process took over; ${left} open windows go on there`
      : `its lease was taken away, with ${left} open windows: group '${key.group}' was removed, or replaced by another one`;
    this.log.warn(`${definition.label}: ${what} [${ErrorCode.LeaseLost}]`);
    delete consumer.left;
  }

  /** The stream was dropped, or the database: what tests of applications do between them. */
  private missing(key: ConsumerKey): void {
    const consumer = this.consumers.get(consumerId(key));
    if (!consumer || consumer.removed || this.stopping.signal.aborted) return;
    delete consumer.left;
    this.log.warn(
      `${consumer.definition.label}: group '${key.group}' of stream '${key.stream}' has gone from the store, which was dropped; ` +
        'registering it again',
    );
    this.register(consumer).catch((error: unknown) => this.registrationFailed(consumer, error));
  }

  /** Once, however often it is told to stop. */
  private leave(consumer: Consumer): Promise<void> {
    consumer.leaving ??= this.giveBack(consumer);
    return consumer.leaving;
  }

  private async giveBack({ definition, current, initialised }: Consumer): Promise<void> {
    const { key, label, emitter } = definition;
    try {
      await this.keeper.leave(key);
    } catch (error) {
      this.log.warn(`${label}: lease not given back, it runs out by itself: ${messageOf(error)}`);
    }
    if (!initialised && !current?.loop.initialised) return;
    try {
      await emitter.close();
    } catch (error) {
      this.log.warn(`${label}: its emitter did not close: ${messageOf(error)}`);
    }
  }

  private waiting(): WaitingConsumers {
    // One that has a backlog needs no flush, and is not to pay for the looks.
    const working = this.running().filter(
      ({ current: { loop } }) => loop.awaitingMessages && loop.buffered + loop.inFlight > 0,
    );
    const fingerprint = working.map(({ definition, counters, current: { loop } }) =>
      [consumerId(definition.key), loop.buffered, loop.inFlight, counters.committedWindows].join(' '),
    );
    return {
      fingerprint: fingerprint.length === 0 ? undefined : fingerprint.join('\n'),
      streams: [...new Set(working.map(({ definition }) => definition.key.stream))],
    };
  }

  private awaitingMessages(): readonly AwaitingConsumer[] {
    return this.running()
      .filter(({ current }) => current.loop.awaitingMessages)
      .map(({ definition, current }) => ({ key: definition.key, wake: () => current.loop.wake() }));
  }

  private statusOf(consumer: Consumer): ConsumerStatus {
    const { definition, counters, calls, current } = consumer;
    const state = this.stateOf(consumer);
    const { unsettled } = calls;
    const blockedSinks = current?.loop.blockedSinks ?? [];
    return {
      key: definition.key,
      label: definition.label,
      state,
      ...(state === ConsumerState.Running && current ? { activity: current.loop.activity } : {}),
      buffered: current?.loop.buffered ?? 0,
      inFlight: current?.loop.inFlight ?? 0,
      committedWindows: counters.committedWindows,
      committedMessages: counters.committedMessages,
      failures: counters.failures,
      sinkFailures: counters.sinkFailures,
      skippedSinks: counters.skippedSinks,
      dropped: counters.dropped,
      expired: counters.expired,
      deadLettered: counters.deadLettered,
      vanished: counters.vanished,
      damaged: counters.damaged,
      recovered: counters.recovered,
      ...(current?.loop.setAside ? { setAside: current.loop.setAside } : {}),
      ...(blockedSinks.length > 0 ? { blockedSinks } : {}),
      ...(unsettled.length > 0 ? { unsettled } : {}),
      ...(counters.lastError ? { lastError: counters.lastError } : {}),
      ...(counters.lastCommit ? { lastCommit: counters.lastCommit } : {}),
    };
  }

  private stateOf({ asked, current, removed }: Consumer): ConsumerState {
    if (!this.started && !asked) return ConsumerState.Stopped;
    if (removed || this.stopping.signal.aborted) return current ? ConsumerState.Stopping : ConsumerState.Stopped;
    if (!current) return ConsumerState.Standby;
    return current.loop.recovering ? ConsumerState.Recovering : ConsumerState.Running;
  }
}
