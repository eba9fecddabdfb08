import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { backoff } from '../common/backoff.js';
import type { SetAside } from './engine.interface.js';
import type { InFlightWindow } from './in-flight-window.js';
import type { LeaseTerm } from './lease-term.js';

/** At the most so many windows wait for evidence at a time; and only so many whatever their size. */
const MOST_HELD = 1_000;
const FEW = 4;
/** So many windows that were not tried before are tried before the wait between two of them doubles. */
const STEP = 4;

interface HeldWindow {
  readonly open: InFlightWindow;
  /** Handlers that had begun when it failed. */
  failedAt: number;
  /** Each of its messages has failed alone; else it failed once, as a probe. */
  readonly whole: boolean;
}

/**
 * Tells a bad message from an outage. A window of which everything fails says nothing about its messages: the service that the
 * handler needs may be away. What the handler makes of other windows says it.
 *
 * ```text
 * all of a window fails ─▶ held ──a handler that began later succeeds──▶ released: the fault is in the messages
 *                           │ ▲
 *                           ▼ │ fails
 *                         probes: one window at a time, once, a different one each time while there are any
 * ```
 *
 * While windows are held and another one fails too, it is an outage: the waits between probes grow and nothing is given up.
 * Windows that failed only as probes start afresh when they are released.
 */
export class Evidence {
  /** Windows that wait in their worker until everything works again (`onAllFailed: 'block'`). */
  readonly blocked = new Set<InFlightWindow>();
  private begun = 0;
  private lastSuccess = 0;
  private held: HeldWindow[] = [];
  private probed: HeldWindow | undefined;
  private nextProbe = 0;
  /** Of the waits between probes. */
  private level = 0;
  private others = false;
  private isReported = false;

  constructor(
    private readonly term: LeaseTerm,
    /** There is news for windows that are held. */
    private readonly news: () => void,
  ) {}

  // ---- runs of the handler

  /** A run of the handler begins. @returns its number */
  begin(): number {
    this.begun += 1;
    return this.begun;
  }

  /** Stands for now: what begins from here on is later. */
  get mark(): number {
    return this.begun;
  }

  succeeded(open: InFlightWindow, run: number): void {
    this.blocked.delete(open);
    this.lastSuccess = Math.max(this.lastSuccess, run);
    if (!this.isInDoubt) return;
    if (this.isReported) {
      const { definition, parts } = this.term;
      parts.log.log(
        `${definition.label}: a window got through again; ${this.held.length} that were set aside are tried again`,
      );
    }
    this.level = 0;
    this.others = false;
    this.isReported = false;
    this.news();
  }

  /** True if a run that began after the mark has succeeded. */
  hasSince(mark: number): boolean {
    return this.lastSuccess > mark;
  }

  // ---- windows that wait for evidence

  /** Windows are held, so only probes begin. */
  get isInDoubt(): boolean {
    return this.held.length > 0 || this.probed !== undefined;
  }

  /** More than one window failed: the fault is not in their messages. */
  get isOutage(): boolean {
    return this.isInDoubt && this.others;
  }

  get isProbing(): boolean {
    return this.probed !== undefined;
  }

  /** Those that wait now; in the order in which they are probed. */
  get windows(): readonly InFlightWindow[] {
    return this.probed ? [this.probed.open, ...this.held.map(({ open }) => open)] : this.held.map(({ open }) => open);
  }

  /** For the status. */
  get summary(): SetAside | undefined {
    const { windows } = this;
    const [first] = windows.toSorted((a, b) => a.record.seq - b.record.seq);
    if (!first) return undefined;
    const since = windows.flatMap(({ record }) => record.aside ?? []).sort((a, b) => a.getTime() - b.getTime())[0];
    return {
      windows: windows.length,
      messages: windows.reduce((sum, { messages }) => sum + messages.length, 0),
      since: since ?? first.record.created,
      window: first.record.id,
      error: first.record.error ?? '',
    };
  }

  /** Sizes of those that wait, without one that is being probed. */
  get size(): { readonly messages: number; readonly bytes: number } {
    let messages = 0;
    let bytes = 0;
    for (const { open } of this.held) {
      messages += open.messages.length;
      bytes += open.bytes;
    }
    return { messages, bytes };
  }

  /** More windows may be tried and held; else probes go round among those that are. */
  get hasRoom(): boolean {
    if (this.held.length < FEW) return true;
    const { readAhead, readAheadBytes } = this.term.parts.options;
    const { messages, bytes } = this.size;
    return this.held.length < MOST_HELD && messages < 2 * readAhead && bytes < 2 * readAheadBytes;
  }

  /** All of the window has failed, by the time of the mark. */
  hold(open: InFlightWindow, failedAt: number): void {
    if (this.isInDoubt) {
      this.others = true;
    } else {
      this.level = 0;
      this.wait();
    }
    this.held.push({ open, failedAt, whole: true });
  }

  /** Takes out those for which there is evidence. */
  release(): readonly { readonly open: InFlightWindow; readonly whole: boolean }[] {
    const released = this.held.filter(({ failedAt }) => this.hasSince(failedAt));
    if (released.length > 0) this.held = this.held.filter(({ failedAt }) => !this.hasSince(failedAt));
    return released;
  }

  /** Takes one out, whatever becomes of it. */
  drop(open: InFlightWindow): void {
    this.held = this.held.filter((each) => each.open !== open);
    if (this.held.length === 0) this.others = false;
  }

  // ---- probes

  /** Milliseconds until the next probe; 0 if it is due. */
  get pause(): number {
    return Math.max(0, this.nextProbe - this.term.parts.clock.monotonic());
  }

  /** The one among those held that was not probed for the longest time. */
  get next(): InFlightWindow | undefined {
    return this.held[0]?.open;
  }

  probing(open: InFlightWindow): void {
    const known = this.held.find((each) => each.open === open);
    if (known) this.held = this.held.filter((each) => each !== known);
    open.probes += 1;
    this.probed = known ?? { open, failedAt: 0, whole: false };
  }

  /** The run of the probed window is over. */
  probeEnded(open: InFlightWindow, isFailed: boolean): void {
    const { probed } = this;
    if (probed?.open !== open) return;
    this.probed = undefined;
    if (!isFailed) return;
    const isNew = !probed.whole && !open.doubted;
    if (!probed.whole) this.others = true;
    open.doubted = true;
    // Another worker has shown in the meantime that it works: the next look releases it.
    probed.failedAt = this.begun;
    this.held.push(probed);
    this.level += isNew ? 1 / STEP : 1;
    this.wait();
    this.report(open);
  }

  /** What the handler failed with is less than what follows from it. */
  private report({ record }: InFlightWindow): void {
    const { definition, counters, parts } = this.term;
    const { held, others } = this;
    const what = others
      ? `${held.length} windows fail, one after the other, the last with: ${record.error}. Nothing is given up; they are tried again ` +
        'until it works. Mend what they all need'
      : `window ${record.id} fails and there is no other one that could show whether the fault is in its messages: ${record.error}. ` +
        'It is tried again, and the next one at once';
    const error = new MinibatchError(ErrorCode.AllFailed, `${definition.label}: ${what}`);
    counters.failed(parts.clock.now(), error);
    if (!others || this.isReported) return;
    this.isReported = true;
    parts.log.error(error.message);
  }

  private wait(): void {
    const { definition, parts } = this.term;
    this.nextProbe = parts.clock.monotonic() + backoff(definition.retry, 1 + Math.floor(this.level));
  }
}
