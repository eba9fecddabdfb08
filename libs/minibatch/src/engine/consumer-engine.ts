import { Activity } from '../common/activity.js';
import { Ages } from '../common/ages.js';
import { type Clock, delay } from '../common/clock.js';
import type { Log } from '../common/log.js';
import { isDead, thisProcess } from '../common/process-identity.js';
import { shuttingDown } from '../errors/shutting-down.js';
import { partitionCount } from '../storage/partitions.js';
import type { GroupKey, LeaseOwner, StreamInfo, StreamStore } from '../storage/stream-store.interface.js';
import { ConsumerPartitions } from './consumer-partitions.js';
import { type ConsumerRecord, ConsumerRecords } from './consumer-records.js';
import { ConsumerRegistration } from './consumer-registration.js';
import { ConsumerShutdown } from './consumer-shutdown.js';
import { stateOf, statusOf } from './consumer-status.js';
import type {
  ConsumerDefinition,
  ConsumerStatus,
  DrainResult,
  Engine,
  EngineOptions,
  Retention,
  WakeUpStatus,
} from './engine.interface.js';
import { EventLoopMonitor } from './event-loop-monitor.js';
import { LeaseKeeper } from './lease-keeper.js';
import { LeaseRounds } from './lease-rounds.js';
import { LeaseTerms } from './lease-terms.js';
import { StreamControl } from './stream-control.js';
import { StreamControlPoller } from './stream-control-poller.js';
import { Sweeper, type SweptStream } from './sweeper.js';
import { WaitingConsumers } from './waiting-consumers.js';
import { WakeUps } from './wake-ups.js';

export const DEFAULT_ENGINE_OPTIONS: EngineOptions = {
  leaseTime: 15_000,
  handover: 10_000,
  readAhead: 1_200,
  readAheadBytes: 16 * 1024 * 1024,
  dedupeTime: 24 * 60 * 60 * 1_000,
};

/** A start waits this long for a store that does not answer; then it continues in the background. Milliseconds. */
const START_WAIT = 5_000;

/**
 * The engine. Owns the consumers of this process: registers their groups (`ConsumerRegistration`), competes for their leases
 * (`LeaseRounds`), and gives each a `ConsumerLoop` for as long as it holds its lease (`LeaseTerms`).
 */
export class ConsumerEngine implements Engine {
  private readonly records: ConsumerRecords;
  private readonly waiting: WaitingConsumers;
  private readonly registration: ConsumerRegistration;
  private readonly rounds: LeaseRounds;
  private readonly control: StreamControl;
  private readonly controlPoller: StreamControlPoller;
  private readonly monitor: EventLoopMonitor;
  private readonly shutdown: ConsumerShutdown;
  private readonly wakeUpCalls: WakeUps;
  private readonly sweeper: Sweeper;
  /** By stream. */
  private readonly retentions = new Map<string, Retention>();
  /** How many partitions streams are declared to have. */
  private readonly declared = new Map<string, number>();
  private readonly partitions: ConsumerPartitions;
  private readonly activity = new Activity();
  private readonly stopping = new AbortController();
  private isStarted = false;
  private isOperating = false;

  constructor(
    store: StreamStore,
    private readonly clock: Clock,
    private readonly log: Log,
    options: Partial<EngineOptions> = {},
    owner: LeaseOwner = thisProcess(),
  ) {
    const resolved = { ...DEFAULT_ENGINE_OPTIONS, ...options };
    const { activity } = this;
    const { signal } = this.stopping;
    const retention = (stream: string) => this.retentions.get(stream);
    const records = (this.records = new ConsumerRecords(clock));
    const waiting = (this.waiting = new WaitingConsumers(records, clock));
    const keeper: LeaseKeeper = new LeaseKeeper(store, clock, owner, resolved, isDead, {
      acquired: (key, lease, clean) => terms.acquired(key, lease, clean),
      lost: (key) => terms.lost(key),
      wentTo: (key, other) => terms.wentTo(key, other),
      missing: (key) => terms.missing(key),
      wanted: (key, lease, heir) => terms.wanted(key, lease, heir),
      note: (key, lease) => terms.note(key, lease),
      overfull: (held) => terms.overfull(held),
    });
    const ages = new Ages(clock);
    const caughtUp = () => this.wakeUpCalls.pollSoon();
    const asked = (stream: string, count: number) => this.control.asked(stream, count);
    const wake = (stream: string) => this.wake(stream);
    const compete = ({ definition }: ConsumerRecord) => {
      keeper.add(definition.key);
      this.rounds.hurry();
    };
    const consumers = (this.partitions = new ConsumerPartitions(records, clock, log, activity, signal, compete));
    const partitions = (stream: string) => consumers.count(stream);
    const parts = {
      store,
      clock,
      log,
      activity,
      keeper,
      options: resolved,
      retention,
      partitions,
      ages,
      caughtUp,
      asked,
      wake,
    };
    const registration = (this.registration = this.newRegistration(store, compete));
    const control = (this.control = new StreamControl(parts, records, registration, consumers, waiting));
    this.controlPoller = this.newControlPoller(store);
    const round = this.newRound(keeper, resolved.leaseTime);
    const roundFailed = (error: unknown) => this.failed(records.all(), error);
    const rounds = (this.rounds = new LeaseRounds(keeper, clock, log, activity, round, roundFailed, signal));
    const changed = () => this.wakeUpCalls.follow();
    const status = (record: ConsumerRecord) => this.statusOf(record);
    const terms = new LeaseTerms(records, waiting, parts, registration, control, rounds, signal, changed, status);
    this.monitor = new EventLoopMonitor(clock, log, records, keeper, resolved.leaseTime, () => rounds.hurry());
    this.shutdown = new ConsumerShutdown(clock, log, keeper, rounds);
    this.sweeper = this.newSweeper(store, ages, resolved.dedupeTime);
    this.wakeUpCalls = this.newWakeUps(store);
  }

  private newRegistration(store: StreamStore, compete: (record: ConsumerRecord) => void): ConsumerRegistration {
    return new ConsumerRegistration(
      store,
      this.clock,
      this.log,
      this.activity,
      (stream) => this.retentions.get(stream),
      (stream) => this.declared.get(stream),
      this.stopping.signal,
      (record, info) => this.registered(record, info, compete),
    );
  }

  private newControlPoller(store: StreamStore): StreamControlPoller {
    return new StreamControlPoller(
      store.polling,
      this.clock,
      this.activity,
      () => this.control.waiting,
      (streams) => this.control.refresh(streams),
    );
  }

  private newRound(keeper: LeaseKeeper, leaseTime: number): () => Promise<void> {
    const { clock, records } = this;
    let looked = clock.monotonic();
    return async () => {
      // Streams whose leases others hold may have got more partitions.
      const isDue = clock.monotonic() - looked >= leaseTime;
      // Those that begin in this round read it for themselves.
      const streams = isDue ? records.streams() : records.activeStreams();
      await keeper.round();
      if (!isDue) return this.control.refreshAfterRound(streams, keeper.requested);
      await this.control.refresh(streams, keeper.requested);
      looked = clock.monotonic();
    };
  }

  private newSweeper(store: StreamStore, ages: Ages, dedupeTime: number): Sweeper {
    const { clock, log, activity, records } = this;
    const swept = () => this.sweptStreams();
    return new Sweeper(store, clock, ages, log, activity, dedupeTime, swept, (stream, error) => {
      this.failed([...records.of(stream)], error);
    });
  }

  private newWakeUps(store: StreamStore): WakeUps {
    const { clock, log, activity, records } = this;
    return new WakeUps(
      store,
      clock,
      log,
      activity,
      this.waiting,
      () => records.activeStreams(),
      (stream) => this.wake(stream),
      (error) => this.failed(records.active(), error),
    );
  }

  private failed(consumers: readonly ConsumerRecord[], error: unknown): void {
    for (const { counters } of consumers) counters.failed(this.clock.now(), error);
  }

  add(definition: ConsumerDefinition): void {
    const record = this.records.add(definition);
    if (this.isStarted && !this.isStopping) this.registration.registerInBackground(record);
  }

  async run(given: ConsumerDefinition): Promise<void> {
    if (this.isStopping) throw shuttingDown(given.label);
    const { key, drained } = given;
    const definition = drained ? { ...given, drained: this.partitions.gather(key, () => drained(0)) } : given;
    const record = this.records.add(definition);
    record.runsAtOnce = true;
    const registered = this.registration.register(record);
    try {
      await this.inTime(registered);
      if (this.isStopping) throw shuttingDown(definition.label);
    } catch (error) {
      this.records.delete(record);
      throw error;
    }
    this.registration.reportFailure(record, registered);
    this.operate();
  }

  retain(stream: string, retention: Retention): void {
    this.retentions.set(stream, retention);
    this.sweeper.refresh();
  }

  declare(stream: string, partitions: number): void {
    this.declared.set(stream, partitions);
  }

  async start(): Promise<void> {
    if (this.isStarted || this.isStopping) return;
    this.isStarted = true;
    const waiting = this.records.all().filter(({ runsAtOnce }) => !runsAtOnce);
    const registered = waiting.map((record) => this.registration.register(record));
    await this.inTime(Promise.all(registered));
    for (const [index, record] of waiting.entries()) {
      this.registration.reportFailure(record, registered[index] ?? Promise.resolve());
    }
    this.operate();
  }

  async stop(timeout: number, hurry?: AbortSignal): Promise<DrainResult> {
    this.stopping.abort();
    this.wakeUpCalls.stop();
    this.controlPoller.stop();
    this.sweeper.stop();
    this.monitor.stop();
    this.rounds.hurry();
    return this.shutdown.stopAll(this.records.all(), timeout, hurry);
  }

  async remove(key: GroupKey, timeout: number): Promise<DrainResult> {
    // A stop of the engine ends it, too.
    const records = this.isStopping ? [] : this.records.ofGroup(key);
    for (const record of records) {
      record.removed = true;
      this.registration.leave(record);
    }
    const results = await Promise.all(records.map((record) => this.shutdown.stopOne(record, timeout)));
    for (const record of records) this.records.delete(record);
    if (records.length > 0) this.wakeUpCalls.follow();
    this.partitions.forget(key);
    return {
      drained: results.reduce((sum, { drained }) => sum + drained, 0),
      abandoned: results.reduce((sum, { abandoned }) => sum + abandoned, 0),
    };
  }

  wake(stream: string, partition?: number): void {
    for (const { definition, current } of this.records.of(stream)) {
      if (partition === undefined || definition.key.partition === partition) current?.loop.wake();
    }
    this.wakeUpCalls.pollSoon();
  }

  async refresh(stream: string): Promise<void> {
    await this.activity.track(() => this.control.refresh([stream]));
  }

  status(): readonly ConsumerStatus[] {
    return this.records.all().map((record) => this.statusOf(record));
  }

  private statusOf(record: ConsumerRecord): ConsumerStatus {
    const state = stateOf(record, this.isStarted || record.runsAtOnce, this.isStopping);
    return statusOf(record, state, { leases: this.rounds.isFailing, polls: this.wakeUpCalls.isFailing });
  }

  wakeUps(): WakeUpStatus {
    return this.wakeUpCalls.status;
  }

  settled(): Promise<void> {
    return this.activity.idle();
  }

  private registered(record: ConsumerRecord, info: StreamInfo, compete: (record: ConsumerRecord) => void): void {
    const { key } = record.definition;
    // The stream was dropped, and has fewer partitions since it was made again.
    if (key.partition >= partitionCount(info)) return this.records.delete(record);
    compete(record);
    this.partitions.registered(record, info);
  }

  private get isStopping(): boolean {
    return this.stopping.signal.aborted;
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

  /** Begins to compete for leases and to watch for messages, once. */
  private operate(): void {
    if (this.isOperating || this.isStopping) return;
    this.isOperating = true;
    this.wakeUpCalls.start();
    this.controlPoller.start();
    this.sweeper.start();
    this.monitor.start();
    this.rounds.start();
  }

  private sweptStreams(): readonly SweptStream[] {
    const streams = new Set([...this.records.activeStreams(), ...this.retentions.keys()]);
    return [...streams].map((stream) => ({
      stream,
      consumed: this.records.isConsumed(stream),
      retention: this.retentions.get(stream) ?? {},
    }));
  }
}
