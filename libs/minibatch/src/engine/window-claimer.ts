import { backoff } from '../common/backoff.js';
import { stackOf } from '../errors/error-text.js';
import { ErrorCode, messageOf } from '../errors/minibatch.error.js';
import { type CutWindow, WindowCutter } from '../windows/window-cutter.js';
import type { ReadPlan } from '../windows/window-emitter.js';
import { windowId } from '../windows/window-id.js';
import type { Committer } from './committer.js';
import { type ClaimRecord, type InFlightWindow, inFlightWindow, WindowState } from './in-flight-window.js';
import type { InFlightWindows } from './in-flight-windows.js';
import type { LeaseTerm } from './lease-term.js';
import type { ReadMessage } from './owned-messages.js';
import type { PassScheduler } from './pass-scheduler.js';
import type { ReadAhead } from './read-ahead.js';
import { isDecodable } from './undecodable.js';

/** Windows of one claim at the most. */
const CLAIM_WINDOWS = 2_000;
/** A strategy that asks for a time in the past is asked again after this wait, then twice as long, and so on; milliseconds. */
const OVERDUE_BACKOFF = { base: 1, max: 1_000, jitter: 0 };
/** Waits after a custom strategy threw. They begin anew once that which threw has answered. */
const STRATEGY_BACKOFF = { base: 1_000, max: 60_000, jitter: 0.1 };

/**
 * Asks the strategy for windows and claims them: one claim at a time. The strategy is asked only after something has changed that it
 * can see, or when it wanted to be.
 */
export class WindowClaimer {
  private readonly cutter: WindowCutter;
  private nextSeq = 1;
  private isInFlight = false;
  /** The last claim; it may be in flight. */
  private claiming: Promise<void> = Promise.resolve();
  private wantsAnswer = true;
  /** Failures in a row: of what it wants to read, and of the windows that it makes. One of them may work all the time. */
  private readonly failures = { plan: 0, cut: 0 };
  /** After it threw. Monotonic, unlike the times that the strategy asks for. */
  private askAgainAt: number | undefined;
  private nextCheck: number | undefined;
  /** It wanted to be asked at a time that has passed. */
  private isOverdue = false;
  /** Times in a row that it was asked because of that, to no effect. */
  private overdue = 0;

  constructor(
    private readonly term: LeaseTerm,
    private readonly windows: InFlightWindows,
    private readonly readAhead: ReadAhead,
    private readonly committer: Committer,
    private readonly passes: PassScheduler,
  ) {
    const { emitter, maxSize, maxBytes, key } = term.definition;
    this.cutter = new WindowCutter(emitter, { maxSize, maxBytes }, key);
  }

  /** @param nextSeq number of the next window */
  resume(nextSeq: number): void {
    this.nextSeq = nextSeq;
  }

  get isClaiming(): boolean {
    return this.isInFlight;
  }

  /** The number of the next window. */
  takeSeq(): number {
    return this.nextSeq++;
  }

  /** The strategy takes nothing of what it is shown, and no more fits in. */
  get isStalled(): boolean {
    return this.cutter.stalled;
  }

  /** The strategy threw, and is left alone for a while. */
  get isResting(): boolean {
    return this.askAgainAt !== undefined && this.term.parts.clock.monotonic() < this.askAgainAt;
  }

  /** What the strategy wants to see now; undefined if it failed. */
  plan(now: number): ReadPlan | undefined {
    const { flushing, workerFree } = this.readAhead.buffer;
    try {
      const plan = this.cutter.reads(now, flushing, workerFree);
      this.failures.plan = 0;
      return plan;
    } catch (error) {
      this.failed(now, error, 'plan');
      return undefined;
    }
  }

  /** Something has changed that the strategy can see. */
  ask(): void {
    this.wantsAnswer = true;
  }

  /** The strategy threw. */
  private failed(now: number, error: unknown, at: 'plan' | 'cut'): void {
    const { counters, parts } = this.term;
    this.failures[at] += 1;
    this.wantsAnswer = true;
    const wait = backoff(STRATEGY_BACKOFF, this.failures[at]);
    this.askAgainAt = parts.clock.monotonic() + wait;
    counters.failed(now, error, ErrorCode.EmitterFailed);
    parts.log.error(`${messageOf(error)}. It is asked again in ${(wait / 1_000).toFixed(1)} s`, stackOf(error));
  }

  /** Claims what the strategy makes of the buffer, if it is time to ask it. */
  claimReady(): void {
    const { readAhead } = this;
    const { clock } = this.term.parts;
    const now = clock.now();
    if (readAhead.isRestarting || this.isResting || this.isInFlight || readAhead.isIdle) return;
    if (!this.wantsAnswer && (this.nextCheck === undefined || now < this.nextCheck)) return;
    this.wantsAnswer = false;
    this.askAgainAt = undefined;
    const buffer = readAhead.show(now, clock.monotonic());
    let cuts: readonly CutWindow<ReadMessage>[];
    try {
      cuts = this.cutter.cut(buffer, CLAIM_WINDOWS);
    } catch (error) {
      if (!this.claimUndecodable(now)) this.failed(now, error, 'cut');
      return;
    }
    // What was cut has left the buffer: it is claimed, whatever the strategy says next.
    try {
      this.nextCheck = this.cutter.nextCheck(buffer);
      this.failures.cut = 0;
    } catch (error) {
      this.nextCheck = undefined;
      this.failed(now, error, 'cut');
    }
    if (cuts.length > 0) {
      this.wantsAnswer = true;
      this.claim(cuts, now);
      return;
    }
    if (buffer.flushing && buffer.complete) {
      readAhead.flushed();
      this.wantsAnswer = true;
      this.passes.schedule();
    }
  }

  /**
   * Milliseconds until the strategy is to be asked again; `Infinity` if nothing but news makes a difference.
   *
   * @param isActive false while nothing is read and claimed
   */
  wait(now: number, isActive: boolean): number {
    this.isOverdue = false;
    let wait = Infinity;
    if (isActive) {
      const { isIdle, idleUntil, isReading } = this.readAhead;
      for (const at of [idleUntil, isIdle ? undefined : this.nextCheck]) {
        if (at === undefined || Number.isNaN(at)) continue;
        if (at > now) wait = Math.min(wait, at - now);
        else this.isOverdue = true;
      }
      if (this.isResting && this.askAgainAt !== undefined)
        wait = Math.min(wait, this.askAgainAt - this.term.parts.clock.monotonic());
      // What is overdue waits for the read or the claim in flight, whose end schedules a pass; otherwise it comes soon. But not again
      // and again: the strategy was asked and has nothing, and what changes that schedules a pass, too.
      else if (this.isOverdue && !isReading && !this.isInFlight)
        wait = Math.min(wait, backoff(OVERDUE_BACKOFF, this.overdue + 1));
    }
    if (!this.isOverdue) this.overdue = 0;
    return wait;
  }

  /** The wait is over. */
  waited(): void {
    if (this.isOverdue) this.overdue += 1;
  }

  /** Claims messages as windows without a handler; resolves when that is done. */
  async claimUnhandled(messages: readonly ReadMessage[]): Promise<void> {
    const now = this.term.parts.clock.now();
    const opened = this.inPieces(messages).map((some) => this.open({ messages: some, bounds: {}, dropped: true }, now));
    await this.store(opened);
  }

  /**
   * Withdraws the window, which runs, and all that are ready: the strategy is to make other windows of their messages. Until then they
   * belong to no window, so a process that takes over does the same.
   */
  async giveBack(open: InFlightWindow, tell: () => void): Promise<void> {
    // Its windows would come before those that are made of these.
    while (this.isInFlight) await this.claiming;
    this.isInFlight = true;
    try {
      const { lease, parts } = this.term;
      const all = [open, ...this.windows.readyOfMessages];
      // Claims without messages: they are removed, and nothing else.
      const claims = all.map(({ record }) => ({ window: { ...record, messageIds: [] }, messages: [] }));
      const options = { groups: [], keep: false };
      await this.term.persist('withdraw claims', () => parts.store.settle(lease, claims, options));
      for (const each of all) this.windows.withdraw(each);
      this.readAhead.putBack(all.flatMap(({ messages }) => messages));
      tell();
    } finally {
      this.isInFlight = false;
      this.wantsAnswer = true;
      this.passes.schedule();
    }
  }

  /**
   * A strategy that failed may have looked at a message that can't be decoded. Such messages are taken out of its sight, as windows of
   * their own, which end as dead letters. True if there were any: then the strategy is asked again.
   */
  private claimUndecodable(now: number): boolean {
    const bad = this.readAhead.buffer.messages.filter((message) => !isDecodable(message));
    if (bad.length === 0) return false;
    this.readAhead.remove(bad);
    this.wantsAnswer = true;
    this.claim(
      this.inPieces(bad).map((messages) => ({ messages, bounds: {}, dropped: false })),
      now,
    );
    return true;
  }

  private inPieces(messages: readonly ReadMessage[]): readonly (readonly ReadMessage[])[] {
    const { maxSize } = this.term.definition;
    const pieces: (readonly ReadMessage[])[] = [];
    for (let from = 0; from < messages.length; from += maxSize) pieces.push(messages.slice(from, from + maxSize));
    return pieces;
  }

  private claim(cuts: readonly CutWindow<ReadMessage>[], now: number): void {
    const opened = cuts.map((cut) => this.open(cut, now));
    this.isInFlight = true;
    this.overdue = 0;
    this.passes.startTask(async () => {
      try {
        this.claiming = this.store(opened);
        await this.claiming;
      } finally {
        this.isInFlight = false;
      }
      for (const { record, messages } of opened) if (record.dropped) this.term.counters.dropped += messages.length;
    });
  }

  /** Resolves when the windows are claimed, and on their way. */
  private async store(opened: readonly InFlightWindow[]): Promise<void> {
    const { lease, parts } = this.term;
    const records = opened.map(({ record }) => record);
    const ends = await this.term.persist('claim', () => parts.store.claim(lease, records));
    if (ends) noteRecords(opened, ends);
    for (const open of opened) {
      if (open.record.dropped) this.committer.add(open);
      else this.windows.transition(open, WindowState.Ready);
    }
  }

  private open({ messages, bounds, dropped }: CutWindow<ReadMessage>, now: number): InFlightWindow {
    const { key } = this.term.definition;
    const messageIds = messages.map((message) => message.id);
    const id = windowId(key.stream, key.group, key.partition, messageIds, bounds);
    const record = { seq: this.takeSeq(), id, messageIds, created: new Date(now), attempt: 1, recoveries: 0 };
    const open = inFlightWindow(Object.assign(record, bounds, dropped && { dropped: true }), messages);
    open.isIntake = this.term.definition.stage?.open !== undefined;
    this.windows.add(open);
    return open;
  }
}

/** @param ends numbers of the windows that are the last ones in their records of the store */
function noteRecords(opened: readonly InFlightWindow[], ends: readonly number[]): void {
  const last = new Set(ends);
  let record: ClaimRecord = { unfinished: 0 };
  for (const open of opened) {
    record.unfinished += 1;
    open.claimRecord = record;
    if (last.has(open.record.seq)) record = { unfinished: 0 };
  }
}
