import type { Clock } from '../common/clock.js';
import { withOthers } from '../common/counted.js';
import type { Log } from '../common/log.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { ConsumerRecord, ConsumerRecords } from './consumer-records.js';
import type { LeaseKeeper } from './lease-keeper.js';

/** Checks in one lease time. */
const CHECKS = 6;
/** A check that is late by one of this many parts of the lease time endangers leases. */
const LATE = 3;

/** A consumer whose lease could not be renewed, and how long others wait for it from now on; milliseconds. */
interface Blocked {
  readonly label: string;
  readonly holdTime: number;
}

/**
 * Notices that the process did not run its timers for a time: the event loop was blocked, or the process was stopped. Only afterwards,
 * of course. A handler that computes for long keeps the process from renewing its leases, so others are asked to wait for longer. Each
 * check also reports handlers and sinks that do not settle.
 */
export class EventLoopMonitor {
  private cancel: (() => void) | undefined;
  /** Windows that had been taken to the handler at the last check. */
  private readonly begun = new WeakMap<ConsumerRecord, number>();

  /** @param leaseTime milliseconds */
  constructor(
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly records: ConsumerRecords,
    private readonly keeper: LeaseKeeper,
    private readonly leaseTime: number,
    /** Renews the leases without delay. */
    private readonly renew: () => void,
  ) {}

  start(): void {
    const pause = this.leaseTime / CHECKS;
    const due = this.clock.monotonic() + pause;
    this.cancel = this.clock.schedule(pause, () => {
      this.check(this.clock.monotonic() - due);
      this.start();
    });
  }

  stop(): void {
    this.cancel?.();
  }

  /** @param late milliseconds */
  private check(late: number): void {
    const isLate = late >= this.leaseTime / LATE;
    const blocked: Blocked[] = [];
    for (const record of this.records.all()) {
      const { counters, current } = record;
      // Also one that has just ended: what it answered came before any timer.
      const worked = counters.begun > (this.begun.get(record) ?? 0) || (current?.loop.running ?? 0) > 0;
      this.begun.set(record, counters.begun);
      this.reportUnsettled(record);
      if (isLate && worked) blocked.push(this.extendHold(record, late));
    }
    this.report(blocked, late);
    if (isLate) this.renew();
  }

  private extendHold({ definition, counters }: ConsumerRecord, late: number): Blocked {
    const { key, label } = definition;
    const holdTime = this.keeper.lengthen(key, late);
    counters.failed(this.clock.now(), blockedError(label, { ...key, blocked: late, holdTime }));
    return { label, holdTime };
  }

  /** In one line: it was one event loop, however many consumers ran on it. */
  private report(blocked: readonly Blocked[], late: number): void {
    const [first, ...others] = blocked;
    if (!first) return;
    const who = withOthers(first.label, others.length);
    const holdTime = Math.max(...blocked.map((each) => each.holdTime));
    this.log.warn(blockedError(who, { blocked: late, holdTime }).message);
  }

  /** Once for each. */
  private reportUnsettled({ calls, definition }: ConsumerRecord): void {
    for (const { window, sink, since, timedOut } of calls.takeNews()) {
      const option = sink === undefined ? 'timeout' : 'sinkTimeout';
      let advice = `If it hangs, retry.${option} aborts its window.signal and counts it as failed`;
      if (timedOut) {
        advice =
          definition.retry.onTimeout === 'abandon'
            ? `It has outlived retry.${option} and keeps running alongside the others (retry.onTimeout)`
            : `It has outlived retry.${option} and keeps its worker until it settles: let it check window.signal`;
      }
      this.log.warn(
        `${definition.label}: ${sink === undefined ? 'its method' : `sink ${sink}`} has not settled for window ${window} since ` +
          `${since.toISOString()}. ${advice}`,
      );
    }
  }
}

function blockedError(who: string, details: { readonly blocked: number; readonly holdTime: number }): MinibatchError {
  const [late, wait] = [Math.round(details.blocked), Math.round(details.holdTime)];
  return new MinibatchError(
    ErrorCode.EventLoopBlocked,
    `${who}: the event loop was blocked for ${late} ms while windows were running, so the lease could not be renewed; from now on ` +
      `others wait for ${wait} ms before they take over. Let the method await now and then, or compute in a worker thread`,
    { details },
  );
}
