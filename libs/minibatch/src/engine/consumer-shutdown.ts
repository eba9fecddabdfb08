import { type Clock, delay, within } from '../common/clock.js';
import type { Log } from '../common/log.js';
import { withOthers } from '../common/counted.js';
import { messageOf } from '../errors/minibatch.error.js';
import type { ConsumerRecord, CurrentTerm } from './consumer-records.js';
import type { DrainResult } from './engine.interface.js';
import type { LeaseKeeper } from './lease-keeper.js';
import type { LeaseRounds } from './lease-rounds.js';
import { describePendingWork } from './pending-work.js';

/** What a stop waits for is logged after this long; milliseconds. */
const LOG_AFTER = 500;
/** A stop waits this long for leases to be given back; milliseconds. */
const RELEASE_WAIT = 2_000;
const STOPPED_WAITING = 'stopping without waiting any longer';
/** Which method awaits the stop can't be known without following every promise of the process. */
const WAITS_FOR_ITSELF =
  '. A method that awaits stop(), disconnect() or app.close() waits for itself: call them there without await';

/**
 * Ends consumers: no new windows; running handlers may finish for a while, then their signals abort; what is finished is committed; the
 * leases are given back.
 */
export class ConsumerShutdown {
  /** Consumers whose leases could not be given back, and why. */
  private readonly unreleased: { readonly label: string; readonly error: unknown }[] = [];

  constructor(
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly keeper: LeaseKeeper,
    private readonly rounds: LeaseRounds,
  ) {}

  /**
   * Ends all consumers, when the engine stops.
   *
   * @param hurry when it aborts, the time is up at once
   */
  async stopAll(records: readonly ConsumerRecord[], timeout: number, hurry?: AbortSignal): Promise<DrainResult> {
    const current = records.flatMap((record) => record.current ?? []);
    for (const { term } of current) term.close();
    const withdrawn = this.keeper.withdrawAll().catch(() => undefined);
    const ended = new AbortController();
    const all = Promise.all([this.rounds.ended, ...current.map(({ done }) => done)]).then(() => ended.abort());
    // A drain may take longer than a lease.
    const renewing = this.rounds.renewUntil(ended.signal);
    const enough = hurry ? AbortSignal.any([ended.signal, hurry]) : ended.signal;
    this.logLater(`stopping, waiting for ${timeout} ms at most for`, current, timeout, enough);
    await Promise.race([all, delay(this.clock, timeout, enough)]);
    if (!ended.signal.aborted) this.logPending(`${STOPPED_WAITING} for`, current, WAITS_FOR_ITSELF);
    const abandoned = current.reduce((sum, { term, loop }) => sum + (term.isOver ? 0 : loop.running), 0);
    for (const { term } of current) term.end();
    ended.abort();

    const drained = current.reduce((sum, { loop }) => sum + loop.drained, 0);
    // A renewal may still be in flight; a store that never answers must not hold up the end.
    const left = Promise.all(records.map((record) => this.leave(record))).then(() => this.reportUnreleased());
    await this.within(RELEASE_WAIT, Promise.all([renewing, withdrawn, left]));
    for (const record of records) delete record.current;
    return { drained, abandoned };
  }

  /** Ends one consumer. */
  async stopOne(record: ConsumerRecord, timeout: number): Promise<DrainResult> {
    const { current } = record;
    let abandoned = 0;
    if (current) {
      const { term, loop } = current;
      term.close();
      await this.ended(current, timeout);
      abandoned = term.isOver ? 0 : loop.running;
      term.end();
    }
    await this.within(
      RELEASE_WAIT,
      this.leave(record).then(() => this.reportUnreleased()),
    );
    return { drained: current?.loop.drained ?? 0, abandoned };
  }

  private async ended(current: CurrentTerm, timeout: number): Promise<void> {
    const { label } = current.term.definition;
    const over = new AbortController();
    this.logLater(`stopping ${label}, waiting for ${timeout} ms at most for`, [current], timeout, over.signal);
    await this.within(
      timeout,
      current.done.finally(() => over.abort()),
    );
    if (!over.signal.aborted) this.logPending(`${STOPPED_WAITING} for`, [current], WAITS_FOR_ITSELF);
    over.abort();
  }

  private logLater(what: string, current: readonly CurrentTerm[], timeout: number, over: AbortSignal): void {
    void delay(this.clock, LOG_AFTER, over).then(() => {
      if (!over.aborted && timeout > LOG_AFTER) this.logPending(what, current);
    });
  }

  private logPending(what: string, current: readonly CurrentTerm[], advice = ''): void {
    const pending = describePendingWork(current);
    if (pending !== undefined) this.log.warn(`${what} ${pending}${advice}`);
  }

  private within(ms: number, work: Promise<unknown>): Promise<void> {
    return within(this.clock, ms, Promise.allSettled([work]));
  }

  /** Once, however often it is told to stop. */
  private leave(record: ConsumerRecord): Promise<void> {
    record.leaving ??= this.release(record);
    return record.leaving;
  }

  private async release({ definition, current, initialised }: ConsumerRecord): Promise<void> {
    const { key, label, emitter } = definition;
    try {
      await this.keeper.leave(key);
    } catch (error) {
      this.unreleased.push({ label, error });
    }
    if (!initialised && !current?.loop.initialised) return;
    try {
      await emitter.close();
    } catch (error) {
      this.log.warn(`${label}: its emitter did not close: ${messageOf(error)}`);
    }
  }

  /** In one line: a store that is away fails for thousands of consumers at once. */
  private reportUnreleased(): void {
    const [first, ...others] = this.unreleased.splice(0);
    if (!first) return;
    const who = withOthers(first.label, others.length);
    const what =
      others.length > 0 ? 'their leases back; they expire on their own' : 'its lease back; it expires on its own';
    this.log.warn(`${who}: could not give ${what}: ${messageOf(first.error)}`);
  }
}
