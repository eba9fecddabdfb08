import { stackOf } from '../errors/error-text.js';
import { ErrorCode, messageOf } from '../errors/minibatch.error.js';
import { backoff } from '../common/backoff.js';
import { LiveSet } from '../common/live-set.js';
import type { StoredMessage, WindowRequest } from '../storage/stream-store.interface.js';
import { MessageBuffer } from '../windows/message-buffer.js';
import type { BufferedMessage } from '../windows/message.js';
import { type CutWindow, WindowCutter } from '../windows/window-cutter.js';
import { windowId } from '../windows/window-id.js';
import { Committer } from './committer.js';
import { Evidence } from './evidence.js';
import { Expiry } from './expiry.js';
import { takeOver } from './take-over.js';
import type { BlockedSink, ConsumerActivity, SetAside } from './engine.interface.js';
import { isLeaseLost } from './lease-keeper.js';
import { type InFlightWindow, inFlightWindow } from './in-flight-window.js';
import { ReadAhead } from './read-ahead.js';
import { Reader } from './reader.js';
import { type LeaseTerm, LeaseTermOver } from './lease-term.js';
import { isDecodable } from './undecodable.js';
import { skipSink, WindowRequests } from './window-requests.js';
import { WindowRunner } from './window-runner.js';

/** Windows of one claim at the most. */
const CLAIM_WINDOWS = 2_000;
/** How long finished windows wait for others to share their commit, while others are claimed or running; milliseconds. */
const GATHER = 25;
/** A strategy that asks for a time in the past is asked again after so long, then twice as long, and so on; milliseconds. */
const OVERDUE_BACKOFF = { base: 1, max: 1_000, jitter: 0 };
/** The wall clock may jump: it is looked at again after so long; milliseconds. */
const LONGEST_WAIT = 60_000;
/** Waits after an own strategy threw. */
const EMITTER_BACKOFF = { base: 1_000, max: 60_000, jitter: 0.1 };

/**
 * One consumer at work, as long as it holds its lease. The only writer of its claims and commits.
 *
 * Four things go on side by side: a read ahead, a claim, a commit point, each at most once, and up to `workers` windows. Whatever
 * ends, or comes from outside, asks for a pass; a pass starts what can be started and returns. So reads and commits overlap
 * with the handlers, and nothing polls.
 *
 * ```text
 * read ──▶ buffer ──cut──▶ claim ──▶ ready ──▶ running ──▶ finished ──▶ commit
 * ```
 */
export class ConsumerLoop {
  private readonly buffer = new MessageBuffer();
  private readonly reader: Reader;
  private readonly readAhead: ReadAhead;
  private readonly cutter: WindowCutter;
  private readonly runner: WindowRunner;
  private readonly expiry: Expiry;
  private committer: Committer | undefined;
  private readonly ready: InFlightWindow[] = [];
  /** Windows that failed as a whole, to be tried once more: others got through. */
  private readonly released: InFlightWindow[] = [];
  private readonly evidence: Evidence;
  /** Seen to, or waiting for the takeover; by window. */
  private readonly requests = new WindowRequests();
  private readonly running = new LiveSet<InFlightWindow>();
  private nextSeq = 1;
  /**
   * Open windows of a process that was cut off. One of them may have ended it: they are handled one at a time, each committed
   * before the next begins, or what was finished before the bad one would come again for ever.
   */
  private readonly suspects = new Set<InFlightWindow>();

  private claiming = false;
  private expiring = false;
  /** Taken out of the buffer to leave unhandled. */
  private unwanted: BufferedMessage[] = [];
  /** What was read ahead may have been cleared since. */
  private rereads = false;
  private passScheduled = false;
  private paused = false;
  private flushing = false;

  /** The strategy is asked only after something has changed that it can see. */
  private ask = true;
  private emitterFailures = 0;
  /** Monotonic, unlike the times that the strategy asks for. */
  private askAgainAt: number | undefined;
  private nextCheck: number | undefined;
  private timer: { readonly due: number; readonly cancel: () => void } | undefined;
  /** Times in a row that the strategy was asked because of a time in the past, to no effect. */
  private overdue = 0;

  private inFlightMessages = 0;
  private inFlightBytes = 0;
  private drainedWindows = 0;
  private readonly ended: Promise<void>;
  private end!: () => void;
  private fail!: (error: unknown) => void;
  private hasInitialised = false;

  constructor(private readonly term: LeaseTerm) {
    const { definition, parts } = term;
    const { readAhead, readAheadBytes } = parts.options;
    const block = Math.min(Math.max(readAhead, definition.emitterContext.size ?? 0), definition.lookAhead);
    this.reader = new Reader(parts.store, definition.key, this.buffer, { messages: block, bytes: readAheadBytes }, () =>
      parts.clock.now(),
    );
    this.readAhead = new ReadAhead(term, this.reader, this.buffer);
    const { maxSize, maxBytes } = definition;
    this.cutter = new WindowCutter(definition.emitter, { maxSize, maxBytes }, definition.key);
    this.evidence = new Evidence(term, () => this.schedulePass());
    this.runner = new WindowRunner(term, this.evidence);
    this.expiry = new Expiry(term, this.buffer, this.reader);
    this.ended = new Promise((resolve, reject) => {
      this.end = resolve;
      this.fail = reject;
    });
    // Before `run` waits for it.
    this.ended.catch(() => undefined);
    term.workers.freed = () => this.schedulePass();
    term.over.signal.addEventListener('abort', () => this.finish(), { once: true });
    term.closing.signal.addEventListener('abort', () => this.schedulePass(), { once: true });
  }

  /**
   * Takes up the work. Resolves when the term is over, or has been closed and all that was under way is committed. Rejects if it
   * can't go on, because the strategy does not start or something went wrong that must not.
   */
  async run(): Promise<void> {
    const { parts } = this.term;
    try {
      await parts.activity.track(() => this.recover());
    } catch (error) {
      if (!this.term.isOver && !isLeaseLost(error)) throw error;
      this.term.end();
    }
    if (this.term.definition.drained) this.flush();
    this.schedulePass();
    await this.ended;
  }

  get recovering(): boolean {
    return this.committer === undefined;
  }

  /** True once the strategy's `init` was called. */
  get initialised(): boolean {
    return this.hasInitialised;
  }

  get buffered(): number {
    return this.buffer.length;
  }

  /** Windows claimed and not committed. */
  get inFlight(): number {
    const committer = this.committer;
    const waiting = this.ready.length + this.released.length + this.evidence.windows.length;
    const probed = this.evidence.isProbing ? 1 : 0;
    return waiting - probed + this.running.size + (committer ? committer.waiting + committer.underWay : 0);
  }

  /** Windows whose handler or sinks are under way. */
  get underWay(): number {
    return this.running.size;
  }

  /** Windows committed since `close`. */
  get drained(): number {
    return this.drainedWindows;
  }

  /** True if only new messages, or the clock, can make it go on: worth a poll. */
  get awaitingMessages(): boolean {
    return this.committer !== undefined && !this.paused && this.readAhead.isExhausted;
  }

  get activity(): ConsumerActivity {
    if (this.term.unavailable) return 'unavailable';
    if (this.runner.blocked || this.evidence.isOutage) return 'blocked';
    if (this.runner.retrying > 0) return 'retrying';
    if (this.runner.throttled > 0) return 'throttled';
    if (this.running.size > 0) return 'handling';
    if (this.paused) return 'paused';
    if (this.evidence.isInDoubt) return 'blocked';
    if (this.isThrottled) return 'throttled';
    return this.cutter.stalled ? 'stalled' : 'waiting';
  }

  get blockedSinks(): readonly BlockedSink[] {
    return this.runner.blockedSinks;
  }

  /** Windows that wait for evidence. */
  get setAside(): SetAside | undefined {
    return this.evidence.summary;
  }

  /** Messages have come. */
  wake(): void {
    this.reader.touch();
    this.schedulePass();
  }

  setPaused(paused: boolean): void {
    if (this.paused === paused) return;
    this.paused = paused;
    this.schedulePass();
  }

  /** How often the stream was cleared. What was read ahead is read again, for the store knows what of it is cleared. */
  setClearings(count: number): void {
    if (!this.expiry.setClearings(count)) return;
    this.rereads = true;
    this.readAhead.restart();
    this.schedulePass();
  }

  /** What operators want done with open windows. */
  setRequests(requests: readonly WindowRequest[]): void {
    for (const request of requests) if (this.requests.add(request)) this.applyRequest(request);
  }

  /** Emits what is there now, ready or not. */
  flush(): void {
    this.flushing = true;
    this.readAhead.restart();
    this.ask = true;
    this.schedulePass();
  }

  // ---- the pass

  private schedulePass(): void {
    if (this.passScheduled || this.term.isOver) return;
    this.passScheduled = true;
    this.term.parts.activity.enter();
    queueMicrotask(() => {
      this.passScheduled = false;
      try {
        this.pass();
      } catch (error) {
        this.fail(error);
      } finally {
        this.term.parts.activity.leave();
      }
    });
  }

  private pass(): void {
    if (this.term.isOver || !this.committer) return;
    if (this.rereads && !this.readAhead.isReading) {
      this.rereads = false;
      this.reader.forget();
    }
    if (!this.term.isClosing) this.expire();
    if (!this.paused && !this.term.isClosing) {
      // First of all: what runs no longer counts against reading ahead.
      this.startWindows();
      this.countFreeWorkers();
      this.readOn();
      this.cut();
    }
    this.commitIfDue(this.committer);
    if (
      this.term.isClosing &&
      this.running.size === 0 &&
      !this.claiming &&
      !this.expiring &&
      this.committer.underWay === 0 &&
      this.committer.waiting === 0
    ) {
      this.term.end();
      return;
    }
    this.armTimer();
    if (this.term.definition.drained && this.isDrained) this.term.definition.drained();
  }

  private get isDrained(): boolean {
    return !this.flushing && !this.claiming && !this.expiring && this.inFlight === 0;
  }

  /** Starts a piece of work that is under way until it settles; its end asks for a pass. */
  private startTask(work: () => Promise<void>): void {
    this.term.parts.activity.enter();
    void this.runTask(work);
  }

  private async runTask(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      // What it had in hand is nowhere now but in the store: only a new beginning finds it again.
      if (!(error instanceof LeaseTermOver) && !isLeaseLost(error)) this.fail(error);
    } finally {
      this.schedulePass();
      this.term.parts.activity.leave();
    }
  }

  private finish(): void {
    this.timer?.cancel();
    this.timer = undefined;
    this.end();
  }

  // ---- reading

  private readOn(): void {
    const now = this.term.parts.clock.now();
    const { readAhead } = this;
    if (readAhead.isReading || this.isResting) return;
    try {
      readAhead.follow(this.term.definition.emitter.reads(now, this.flushing, this.buffer.workerFree));
    } catch (error) {
      this.emitterFailed(now, error);
      return;
    }
    const { wanted } = readAhead;
    if (wanted === 0 || this.inFlightIsEnough()) return;
    this.startTask(async () => {
      try {
        await readAhead.read(wanted);
      } finally {
        this.ask = true;
      }
    });
  }

  /**
   * Two blocks, one being runTask on and one being read, are what it takes to never wait. Windows that are running don't count: their
   * number is bounded, and no worker is to wait for the others.
   */
  private inFlightIsEnough(): boolean {
    // What waits for evidence has bounds of its own, or there would never be any.
    const { size } = this.evidence;
    const { readAhead, readAheadBytes } = this.term.parts.options;
    let messages = this.inFlightMessages - size.messages;
    let bytes = this.inFlightBytes - size.bytes;
    for (const open of this.running) {
      messages -= open.messages.length;
      bytes -= open.bytes;
    }
    // Then only the buffer grows, which has bounds of its own, and a window may need all of it.
    if (messages === 0) return false;
    return messages + this.buffer.length >= 2 * readAhead || bytes + this.buffer.bytes >= 2 * readAheadBytes;
  }

  // ---- cutting and claiming

  /** The strategy holds windows back that are due and not full, until a worker can start them and the rate limit lets it. */
  private countFreeWorkers(): void {
    const { buffer } = this;
    const wasFree = buffer.workerFree;
    buffer.freeWorkers = Math.min(this.freeWorkers, this.allowedStarts);
    if (buffer.workerFree && !wasFree) this.ask = true;
  }

  private get freeWorkers(): number {
    const { evidence, ready, released, suspects } = this;
    // One window that was not tried yet has to be there, as a probe, or those that are set aside might never get evidence.
    if (evidence.isInDoubt) return evidence.hasRoom && ready.every(({ doubted }) => doubted) ? 1 : 0;
    const { free } = this.term.workers;
    const workers = suspects.size === 0 ? free : Math.min(free, this.isAlone ? 1 : 0);
    return workers - ready.length - released.length;
  }

  /** So many windows the rate limit lets begin now, beyond those that are claimed. */
  private get allowedStarts(): number {
    const { limiter } = this.term;
    return limiter ? limiter.free - this.ready.length - this.released.length : Infinity;
  }

  /** A worker is free, and the rate limit lets nothing begin. */
  private get isThrottled(): boolean {
    if (!this.term.limiter || (this.buffer.length === 0 && !this.readAhead.isIdle)) return false;
    return this.freeWorkers > 0 && this.allowedStarts <= 0;
  }

  private cut(): void {
    const now = this.term.parts.clock.now();
    if (this.readAhead.isTurning || this.isResting) return;
    if (this.claiming || !(this.ask || (this.nextCheck !== undefined && now >= this.nextCheck))) return;
    if (this.readAhead.isIdle) return;
    this.ask = false;
    this.askAgainAt = undefined;
    const { buffer } = this;
    buffer.now = now;
    buffer.monotonic = this.term.parts.clock.monotonic();
    buffer.flushing = this.flushing;
    buffer.saturated = this.readAhead.isFull;
    let windows: readonly CutWindow[];
    try {
      windows = this.cutter.cut(buffer, CLAIM_WINDOWS);
      this.nextCheck = this.term.definition.emitter.nextCheck(buffer);
      this.emitterFailures = 0;
    } catch (error) {
      if (!this.takeUndecodable(now)) this.emitterFailed(now, error);
      return;
    }
    if (windows.length > 0) {
      this.ask = true;
      this.claim(windows, now);
      return;
    }
    if (this.flushing && buffer.complete) {
      this.flushing = false;
      this.ask = true;
      this.schedulePass();
    }
  }

  /** After an own strategy threw. */
  private get isResting(): boolean {
    return this.askAgainAt !== undefined && this.term.parts.clock.monotonic() < this.askAgainAt;
  }

  private emitterFailed(now: number, error: unknown): void {
    const { counters, parts } = this.term;
    this.emitterFailures += 1;
    this.ask = true;
    this.askAgainAt = parts.clock.monotonic() + backoff(EMITTER_BACKOFF, this.emitterFailures);
    counters.failed(now, error, ErrorCode.EmitterFailed);
    parts.log.error(messageOf(error), stackOf(error));
  }

  /**
   * A strategy that failed may have looked at a message that can't be decoded. Such messages are taken out of its sight, as windows of
   * their own, whose end is their burial. True if there were any: then the strategy is asked again.
   */
  private takeUndecodable(now: number): boolean {
    const bad = this.buffer.messages.filter((message) => !isDecodable(message as unknown as StoredMessage));
    if (bad.length === 0) return false;
    this.buffer.remove(bad);
    this.ask = true;
    const { maxSize } = this.term.definition;
    const cuts: CutWindow[] = [];
    for (let from = 0; from < bad.length; from += maxSize) {
      cuts.push({ messages: bad.slice(from, from + maxSize), bounds: {}, dropped: false });
    }
    this.claim(cuts, now);
    return true;
  }

  private claim(cuts: readonly CutWindow[], now: number): void {
    const opened = cuts.map((cut) => this.open(cut, now));
    for (const open of opened) this.count(open, 1);
    this.claiming = true;
    this.overdue = 0;
    this.startTask(async () => {
      try {
        await this.claimed(opened);
      } finally {
        this.claiming = false;
      }
      for (const open of opened) {
        if (open.record.dropped) this.term.counters.dropped += open.messages.length;
      }
    });
  }

  /** Resolves when they are claimed, and on their way. */
  private async claimed(opened: readonly InFlightWindow[]): Promise<void> {
    const { lease, parts } = this.term;
    const records = opened.map(({ record }) => record);
    await this.term.persist('claim', () => parts.store.claim(lease, records));
    for (const open of opened) {
      if (open.record.dropped) this.committer?.add({ open });
      else this.ready.push(open);
    }
  }

  // ---- what nobody wants any more

  private expire(): void {
    const looks = this.expiry.wait === 0;
    // Out of the strategy's sight at once, also while others are leaving.
    for (const message of this.expiry.buffered()) this.unwanted.push(message);
    if (this.expiring || (!looks && this.unwanted.length === 0)) return;
    const { unwanted } = this;
    this.unwanted = [];
    this.expiring = true;
    this.startTask(async () => {
      let expired = 0;
      const leave = async (messages: readonly BufferedMessage[]) => {
        await this.expired(messages);
        expired += messages.length;
      };
      try {
        if (unwanted.length > 0) await leave(unwanted);
        if (looks) for await (const page of this.expiry.unread()) await leave(page);
      } finally {
        this.expiring = false;
      }
      if (expired > 0) {
        const { definition, parts } = this.term;
        parts.log.log(
          `${definition.label}: ${expired} messages of '${definition.key.stream}' leave unhandled: they are older than ` +
            'maxAge, or the stream was cleared',
        );
      }
    });
  }

  private async expired(messages: readonly BufferedMessage[]): Promise<void> {
    const now = this.term.parts.clock.now();
    const { maxSize } = this.term.definition;
    const opened: InFlightWindow[] = [];
    for (let from = 0; from < messages.length; from += maxSize) {
      opened.push(this.open({ messages: messages.slice(from, from + maxSize), bounds: {}, dropped: true }, now));
    }
    for (const open of opened) this.count(open, 1);
    await this.claimed(opened);
    this.term.counters.expired += messages.length;
    this.schedulePass();
  }

  private open(cut: CutWindow, now: number): InFlightWindow {
    const { key } = this.term.definition;
    // What the strategy chose from is what the reader put in: the same objects.
    const messages = cut.messages as unknown as readonly StoredMessage[];
    const messageIds = messages.map((message) => message.id);
    const id = windowId(key.stream, key.group, key.partition, messageIds, cut.bounds);
    const record = { seq: this.nextSeq++, id, messageIds, created: new Date(now), attempt: 1, recoveries: 0 };
    return inFlightWindow(Object.assign(record, cut.bounds, cut.dropped && { dropped: true }), messages);
  }

  private count({ messages, bytes }: InFlightWindow, sign: 1 | -1): void {
    this.inFlightMessages += sign * messages.length;
    this.inFlightBytes += sign * bytes;
  }

  // ---- handling

  private startWindows(): void {
    while (this.term.workers.hasFree) {
      if (this.evidence.isInDoubt) this.release();
      const next = this.nextWindow();
      if (!next) return;
      const { open, from, isProbe } = next;
      if (open.suspect) this.suspects.add(open);
      if (this.suspects.size > 0 && !this.isAlone) return;
      if (from?.[0] === open) from.shift();
      else if (from) from.splice(from.indexOf(open), 1);
      // While windows are held others begin out of order.
      open.noted = open.suspect || this.evidence.isInDoubt || from === this.released;
      if (isProbe) this.evidence.probing(open);
      this.start(open, isProbe);
    }
  }

  private get mayStart(): boolean {
    return this.term.workers.hasFree && (this.suspects.size === 0 || this.isAlone);
  }

  /** Absent `from`: it is held. */
  private nextWindow():
    { readonly open: InFlightWindow; readonly from?: InFlightWindow[]; readonly isProbe: boolean } | undefined {
    const { evidence, ready, released } = this;
    if (released[0]) return { open: released[0], from: released, isProbe: false };
    if (!evidence.isInDoubt) return ready[0] && { open: ready[0], from: ready, isProbe: false };
    if (evidence.isProbing) return undefined;
    const isDue = evidence.pause === 0;
    const fresh = evidence.hasRoom ? ready.find(({ doubted }) => !doubted) : undefined;
    if (fresh && (isDue || !evidence.isOutage)) return { open: fresh, from: ready, isProbe: true };
    if (!isDue) return undefined;
    if (ready[0]?.doubted && evidence.hasRoom) return { open: ready[0], from: ready, isProbe: true };
    return evidence.next && { open: evidence.next, isProbe: true };
  }

  /** There is evidence for windows that were held: back to their places. */
  private release(): void {
    for (const { open, whole } of this.evidence.release()) {
      if (open.apart) open.apart.bisection.proven = true;
      const list = whole ? this.released : this.ready;
      const behind = list.findIndex(({ record }) => record.seq > open.record.seq);
      list.splice(behind < 0 ? list.length : behind, 0, open);
    }
  }

  private start(open: InFlightWindow, isProbe: boolean): void {
    this.running.add(open);
    this.term.workers.take();
    this.term.counters.begun += 1;
    this.startTask(async () => {
      let isHeld = false;
      try {
        const result = await this.runner.run(open, isProbe);
        isHeld = result.kind === 'held';
        if (result.kind === 'finished') this.committer?.add({ open, ...(result.window && { window: result.window }) });
      } finally {
        this.running.delete(open);
        this.term.workers.release();
        // One that waits does not keep the others from going on.
        if (isHeld) this.suspects.delete(open);
        if (isProbe) this.evidence.probeEnded(open, isHeld);
        else if (isHeld) this.evidence.hold(open, this.evidence.mark);
      }
    });
  }

  /** Before the windows of an earlier holder are taken over, it waits for them. */
  private applyRequest(request: WindowRequest): void {
    if (!this.committer) return;
    const { running, ready, released, evidence } = this;
    const open = [...running, ...ready, ...released, ...evidence.windows].find(
      ({ record }) => record.id === request.window,
    );
    if (!open) {
      // On its way out, or it is gone.
      if (!this.committer.has(request.window)) this.answer(request);
      return;
    }
    if (request.action === 'skip') {
      skipSink(open, request.sink);
      return;
    }
    open.givenUp = true;
    open.stop?.abort();
    if (running.has(open)) return;
    for (const list of [ready, released]) if (list.includes(open)) list.splice(list.indexOf(open), 1);
    evidence.drop(open);
    this.start(open, false);
  }

  private answer(request: WindowRequest): void {
    const { definition, parts } = this.term;
    this.startTask(async () => {
      await this.term.persist('note that a window is gone', () =>
        parts.store.updateStream(definition.key.stream, { answered: request }),
      );
      this.requests.delete(request);
    });
  }

  private get isAlone(): boolean {
    return this.running.size === 0 && this.committer?.underWay === 0 && this.committer.waiting === 0;
  }

  // ---- committing

  private commitIfDue(committer: Committer): void {
    if (!committer.isReady) return;
    const [next] = this.ready;
    // A window that is being claimed is about to run.
    const nothingRuns = this.running.size === 0 && !this.claiming && (!next || this.paused || this.suspects.size > 0);
    const due = nothingRuns || this.term.isClosing || committer.isFull || committer.waitedFor() >= GATHER;
    if (!due) return;
    this.startTask(async () => {
      const batch = await committer.commit();
      // The next commit point need not wait until these have left.
      this.schedulePass();
      await committer.settle(batch);
      if (this.term.isClosing) this.drainedWindows += batch.windows.length;
      for (const { open } of batch.windows) this.forget(open);
    });
  }

  private forget(open: InFlightWindow): void {
    for (const request of this.requests.of(open.record.id)) this.answer(request);
    this.suspects.delete(open);
    this.count(open, -1);
    this.reader.release(open.messages.map((message) => message.id));
  }

  // ---- waiting

  private armTimer(): void {
    const { clock } = this.term.parts;
    const waits: number[] = [];
    let isOverdue = false;
    if (!this.paused && !this.term.isClosing) {
      const now = clock.now();
      for (const at of [this.readAhead.idleUntil, this.readAhead.isIdle ? undefined : this.nextCheck]) {
        if (at === undefined || Number.isNaN(at)) continue;
        if (at > now) waits.push(at - now);
        else isOverdue = true;
      }
      if (this.isResting && this.askAgainAt !== undefined) waits.push(this.askAgainAt - clock.monotonic());
      // What is overdue waits for the read or the claim under way, whose end asks for a pass; else it comes soon. But not again
      // and again: the strategy was asked and has nothing, and what changes that asks for a pass too.
      else if (isOverdue && !this.readAhead.isReading && !this.claiming)
        waits.push(backoff(OVERDUE_BACKOFF, this.overdue + 1));
    }
    const { limiter } = this.term;
    if (limiter && !this.paused && !this.term.isClosing && this.isThrottled) waits.push(limiter.rest);
    if (!isOverdue) this.overdue = 0;
    if (!this.paused && !this.term.isClosing && this.evidence.isInDoubt && !this.evidence.isProbing) {
      const { pause } = this.evidence;
      if (pause > 0) waits.push(pause);
      // It has become due since this pass looked for a window.
      else if (this.mayStart && this.nextWindow()) waits.push(0);
    }
    const look = this.expiry.wait;
    if (look !== undefined && !this.expiring && !this.term.isClosing) waits.push(look);
    if (this.committer && this.committer.waiting > 0 && this.committer.underWay === 0) {
      waits.push(Math.max(0, GATHER - this.committer.waitedFor()));
    }
    this.wakeAfter(Math.min(...waits), isOverdue);
  }

  private wakeAfter(wait: number, isOverdue: boolean): void {
    const { clock } = this.term.parts;
    const due = clock.monotonic() + Math.min(wait, LONGEST_WAIT);
    // About the same: not worth another timer at every pass.
    if (this.timer && Math.abs(this.timer.due - due) < 1 && wait !== Infinity) return;
    this.timer?.cancel();
    this.timer = undefined;
    if (wait === Infinity) return;
    const armed = clock.now();
    const cancel = clock.schedule(Math.min(wait, LONGEST_WAIT), () => {
      this.timer = undefined;
      if (isOverdue) this.overdue += 1;
      // The clock was set back: a time that the strategy asked for may be far away now.
      if (clock.now() < armed) this.ask = true;
      this.schedulePass();
    });
    this.timer = { due, cancel };
  }

  // ---- recovery

  /** Takes up where an earlier holder of the lease left off. */
  private async recover(): Promise<void> {
    const { definition, parts } = this.term;
    const { progress, windows, nextSeq, lastEnd } = await takeOver(this.term);
    const committer = new Committer(this.term, progress);
    this.nextSeq = nextSeq;
    for (const open of windows) {
      this.reader.own(open.messages);
      this.count(open, 1);
      if (open.suspect) this.suspects.add(open);
      const vanished = open.messages.length === 0 && open.record.messageIds.length > 0;
      if (vanished || open.record.dropped) committer.add({ open });
      else if (open.record.aside) {
        // It takes new evidence: the service may be away now.
        this.suspects.delete(open);
        this.evidence.hold(open, this.evidence.mark);
      } else this.ready.push(open);
    }
    this.hasInitialised = true;
    await definition.emitter.init({
      ...definition.emitterContext,
      stream: definition.key.stream,
      group: definition.key.group,
      now: parts.clock.now(),
      ...(lastEnd ? { lastEnd } : {}),
    });
    this.committer = committer;
    for (const request of this.requests.all()) this.applyRequest(request);
  }
}
