import { type AppendError, type MinibatchError } from '../errors/minibatch.error.js';
import { backoff } from '../common/backoff.js';
import { BACKGROUND_CLOCK, type Clock, delay } from '../common/clock.js';
import { batchesOf } from '../common/batches.js';
import { CheckpointError, type FailedCheckpoint, isCheckpointError } from '../storage/checkpoints.js';
import type { AppendOptions, AppendOutcome, NewMessage, StreamStore } from '../storage/stream-store.interface.js';
import {
  bytesOfEntry,
  type Call,
  type Entry,
  failureAt,
  heldOf,
  isAway,
  isStored,
  isUnsent,
  itemsOfEntry,
  joined,
  looksAt,
  messagesOf,
  type SourcePosition,
  sourceKey,
  tell,
  unsentOf,
  type Write,
  writeOf,
} from './append-entries.js';
import { AnswerWatch } from './answer-watch.js';
import { appendFailed, goingDown, notStored } from './append-failures.js';
import { bytesOf, PendingLimit, type PendingLimits } from './pending-limit.js';
import { isOutOfReach, isStoreAway, WaitingCalls } from './waiting-calls.js';

/** Most messages of one write. */
export const GROUP_MESSAGES = 1000;
/** Most bytes of one write (at least one message). */
export const GROUP_BYTES = 8 * 1024 * 1024;
const GROUP = { items: GROUP_MESSAGES, bytes: GROUP_BYTES };

const NONE: readonly Entry[] = [];
/** Of a call that only stores a position. */
const NO_MESSAGES: readonly NewMessage[] = [];

/** Callbacks of it run at the end of the turn. */
const NOW = Promise.resolve();

/** Waits between two probes of a store that refuses at once. */
const LOOK_BACKOFF = { base: 50, max: 1000, jitter: 0.3 };

export interface AppendQueueParts {
  readonly store: StreamStore;
  readonly clock: Clock;
  readonly limits: PendingLimits;
  /**
   * Makes sure that the stream exists and is open. Undefined if it is known to be; rejects if messages must not be stored on it.
   * @param now monotonic
   * @param hasKeys whether messages that are about to be written have keys
   */
  prepare(stream: string, now: number, hasKeys: () => boolean): Promise<void> | undefined;
  /** Decides which partitions the messages go to, now that they are sent. */
  place(messages: readonly NewMessage[]): void;
  /** Asks the store about the stream; rejects with `StoreUnavailable` while the store is unreachable. */
  look(stream: string): Promise<unknown>;
  /** Messages have been stored on the stream; in this partition, if it has several. */
  appended(stream: string, partition?: number): void;
}

/**
 * Groups appends into writes. One write is in flight at a time; messages appended meanwhile are collected and form the next
 * one, in the order of the calls. Nothing waits for a timer: an append that finds no write in flight starts one at the
 * end of the current turn, so that a burst of calls is written together.
 *
 * Each call is told about its own messages and its own position only. A stream that can't be prepared fails the calls on it and no
 * others. The position of a call that needs several writes goes with the last of them.
 *
 * When a write finds the store out of reach, no further one is tried before the store has answered a probe. Calls that wait meanwhile
 * fail one by one (see `WaitingCalls`), and are certainly not stored, because they were never sent.
 */
export class AppendQueue {
  private readonly waiting: WaitingCalls<Entry>;
  private readonly pending: PendingLimit;
  private readonly watch: AnswerWatch;
  /** What is being written. */
  private current: readonly Entry[] = NONE;
  /** In flight, or the last one. */
  private write: Write | undefined;
  /** Since the store was found out of reach. */
  private probes = 0;
  /** Written, but some of their messages are held up. */
  private readonly held = new Set<Entry>();
  private giveUpHeld!: () => void;
  private readonly abandoned = new Promise<void>((resolve) => (this.giveUpHeld = resolve));
  private writing = false;
  /** What is being written has gone to the store; before that, its streams are looked at. */
  private isSent = false;
  private isAbandoned = false;
  private last: Promise<unknown> = Promise.resolve();
  /** The last call with a position, by source: an earlier one that was held up must not put it back. */
  private readonly newest = new Map<string, Call>();
  /** Calls that are not answered in the order of the others. */
  private readonly stragglers = new Set<Promise<unknown>>();

  /** The store calls it before it answers the write, so it is about the one in flight. */
  private readonly late = (index: number, outcome: Promise<AppendOutcome>): void => {
    const { write } = this;
    if (write) write.held = (write.held ?? new Map<number, Promise<AppendOutcome>>()).set(index, outcome);
  };
  private readonly begin = (): void => this.writeNext(this.waiting.first?.since ?? 0);
  private readonly writeOn = (): void => this.writeNext(this.parts.clock.monotonic());
  private readonly sendPrepared = (entries: readonly Entry[]): void => {
    if (entries.length > 0) this.send(entries, this.parts.clock.monotonic());
    else this.written();
  };
  private readonly stored = (outcomes: readonly AppendOutcome[]): void => {
    if (this.write) this.answer(this.write, outcomes);
    this.written();
  };
  private readonly failed = (error: unknown): void => {
    if (this.write) this.answerFailure(this.write, error);
    this.written();
  };
  /** Of a write without positions. */
  private readonly options: AppendOptions = { late: this.late };

  constructor(private readonly parts: AppendQueueParts) {
    const { store, clock, limits } = parts;
    this.waiting = new WaitingCalls(
      clock,
      () => store.patience,
      (entry, error) => this.fail(entry, notStored(error)),
    );
    this.pending = new PendingLimit(limits);
    this.watch = new AnswerWatch({
      // Servers know nothing of a virtual clock.
      clock: BACKGROUND_CLOCK,
      patience: () => store.patience,
      look: async () => this.current[0] && parts.look(this.current[0].call.stream),
      silent: (error) => this.givesNoAnswer(error),
    });
  }

  /**
   * Resolves with the outcomes in the order of the messages. Rejects if a position could not be stored, although the messages were
   * (`CheckpointError`) or because there were none, or if the queue is full; never for what happened to messages.
   *
   * @param messages with their sizes, all on the stream; none to store a position alone
   * @param waits for room in a full queue
   * @param since when the call was made; monotonic
   */
  add(
    stream: string,
    messages: readonly NewMessage[],
    position?: SourcePosition,
    waits = false,
    since = this.parts.clock.monotonic(),
  ): Promise<readonly AppendOutcome[]> {
    const call: Call = { stream, position, since, failed: false, late: undefined };
    if (position) this.newest.set(sourceKey(call, position), call);
    if (waits && this.pending.isFull) {
      return this.straggling(new Promise((resolve) => this.pending.wait(() => resolve(this.enter(call, messages)))));
    }
    if (!waits && !this.pending.hasRoom) return Promise.reject(this.pending.refusal(stream));
    return this.enter(call, messages);
  }

  /** Resolves when everything that has been added so far is answered. */
  async answered(): Promise<void> {
    const { last } = this;
    await Promise.allSettled(this.stragglers);
    // Entries are answered in order.
    await last.catch(() => undefined);
  }

  /** Fails everything that is not answered yet, and all later calls: the process no longer waits for the store. */
  abandon(): void {
    this.isAbandoned = true;
    this.pending.open();
    for (const entry of this.waiting.take(this.waiting.length)) this.fail(entry, goingDown('no'));
    for (const entry of [...this.current, ...this.held]) this.fail(entry, goingDown('unknown'));
    this.giveUpHeld();
  }

  private enter(call: Call, messages: readonly NewMessage[]): Promise<readonly AppendOutcome[]> {
    const [only] = messages;
    if (messages.length <= 1) return this.enqueue(call, messages, only ? bytesOf(only) : 0, true);
    const parts = batchesOf(messages, GROUP, bytesOf);
    const last = parts.length - 1;
    const answers = parts.map(({ items, bytes }, index) => this.enqueue(call, items, bytes, index === last));
    return answers[1] ? joined(answers) : answers[0]!;
  }

  private straggling<R>(answer: Promise<R>): Promise<R> {
    this.stragglers.add(answer);
    const over = () => this.stragglers.delete(answer);
    answer.then(over, over);
    return answer;
  }

  private enqueue(
    call: Call,
    messages: readonly NewMessage[],
    bytes: number,
    last: boolean,
  ): Promise<readonly AppendOutcome[]> {
    const { since } = call;
    const count = messages.length;
    let entry!: Entry;
    const answer = new Promise<readonly AppendOutcome[]>((settle, reject) => {
      entry = { call, since, last, messages, count, bytes, settle, reject, isAnswered: false };
    });
    this.last = answer;
    this.pending.add(count, bytes);
    if (this.isAbandoned) {
      this.fail(entry, goingDown('no'));
      return answer;
    }
    this.waiting.add(entry);
    if (!this.writing) {
      this.writing = true;
      // The end of the turn: the rest of a burst has been added by then.
      void NOW.then(this.begin);
    }
    return answer;
  }

  /**
   * Writes what waits, one write after the other. Not an async loop: each append that is awaited on its own would pay for one.
   *
   * @param began monotonic
   */
  private writeNext(began: number): void {
    if (this.waiting.length === 0) this.writing = false;
    else if (this.waiting.isStoreAway) void this.storeAnswers().then(this.writeOn);
    else {
      const group = (this.current = this.waiting.takeBatch(GROUP, itemsOfEntry, bytesOfEntry));
      this.isSent = false;
      this.watch.begin();
      const looks = looksAt(group, began, this.parts);
      if (looks) void this.prepared(group, looks).then(this.sendPrepared);
      else this.send(group, began);
    }
  }

  private send(entries: readonly Entry[], began: number): void {
    const write = (this.write = writeOf(entries, began, this.options));
    this.isSent = true;
    try {
      const messages = messagesOf(entries);
      this.parts.place(messages);
      void this.parts.store.append(messages, write.options).then(this.stored, this.failed);
    } catch (error) {
      this.failed(error);
    }
  }

  /** What was sent may be stored; what waits is not, and waits no longer than for any store that is away. The next write waits for this one. */
  private givesNoAnswer(error: MinibatchError): void {
    const failure = this.isSent ? appendFailed(error) : notStored(error);
    for (const entry of this.current) this.fail(entry, failure);
    this.waiting.storeIsAway(this.parts.clock.monotonic(), error);
  }

  /** Asks the store whether it is back. Any answer counts: if something else is wrong, the write reports it. */
  private async storeAnswers(): Promise<void> {
    const { clock } = this.parts;
    if (this.probes > 0) await delay(clock, backoff(LOOK_BACKOFF, this.probes));
    this.probes += 1;
    const { first } = this.waiting;
    const began = clock.monotonic();
    try {
      if (first) await this.parts.look(first.call.stream);
    } catch (error) {
      if (isStoreAway(error)) {
        this.waiting.storeIsAway(began, error);
        return;
      }
    }
    this.waiting.storeIsBack();
  }

  private written(): void {
    this.watch.end();
    this.current = NONE;
    // The store may answer the probe and refuse the write.
    if (!this.waiting.isStoreAway) this.probes = 0;
    if (this.waiting.length > 0) this.writeOn();
    else this.writing = false;
  }

  private answerFailure(write: Write, error: unknown): void {
    if (isCheckpointError(error)) {
      this.answer(write, error.outcomes, error.failed);
      return;
    }
    const failure = appendFailed(error);
    const { entries, began } = write;
    if (!isStoreAway(failure)) {
      for (const entry of entries) this.fail(entry, failure);
    } else if (failure.stored === 'no') {
      this.tryAgain(entries, began, failure);
    } else {
      for (const entry of entries) this.fail(entry, failure);
      this.waiting.storeIsAway(began, failure);
    }
  }

  private answer(write: Write, outcomes: readonly AppendOutcome[], unstored?: readonly FailedCheckpoint[]): void {
    const { entries, began } = write;
    const away = outcomes.find(isAway);
    const unsent: Entry[] = [];
    let from = 0;
    let told: string | undefined;
    let partitions: Set<string> | undefined;
    const toldSoFar = () => (partitions ??= new Set<string>());
    for (const entry of entries) {
      const { call, messages } = entry;
      const answers = entries.length === 1 ? outcomes : outcomes.slice(from, from + messages.length);
      const held = heldOf(write, from, messages.length);
      from += messages.length;
      if (held || call.late) {
        this.settleLate(entry, answers, held);
        continue;
      }
      // Mostly they are all on one stream.
      if (told !== call.stream && answers.some(isStored)) told = tell(entry, toldSoFar, this.parts);
      if (away && answers.some(isUnsent)) unsent.push(unsentOf(entry, answers));
      else this.settle(entry, answers, unstored && failureAt(write, entry, unstored));
    }
    if (away) this.tryAgain(unsent, began, away.error);
  }

  /**
   * Certainly not stored, because the store is unreachable: they wait for it like later ones. A server that has just died
   * refuses what is sent to it at once, so without this they would fail while later ones wait.
   */
  private tryAgain(entries: readonly Entry[], began: number, error: unknown): void {
    if (this.isAbandoned) for (const entry of entries) this.fail(entry, goingDown('no'));
    else this.waiting.putBack(entries.filter(({ isAnswered }) => !isAnswered));
    this.waiting.storeIsAway(began, error);
  }

  /** Others do not wait for it. */
  private settleLate(
    entry: Entry,
    answers: readonly AppendOutcome[],
    held: readonly (Promise<AppendOutcome> | undefined)[] = [],
  ): void {
    const { call, last } = entry;
    const late = (call.late ??= []);
    const before = [...late];
    const settling = (async () => {
      const outcomes = await Promise.all(answers.map((answer, index) => held[index] ?? Promise.resolve(answer)));
      if (outcomes.some(isStored)) this.parts.appended(call.stream);
      if (!last || !call.position) return this.settle(entry, outcomes);
      await Promise.all(before);
      call.failed ||= outcomes.some(({ status }) => status === 'failed');
      this.settle(entry, outcomes, await this.storeLatePosition(call, call.position));
    })();
    this.held.add(entry);
    const over = settling.finally(() => this.held.delete(entry));
    late.push(this.straggling(Promise.race([over, this.abandoned])));
  }

  /** What it fails with, if it does. */
  private async storeLatePosition(call: Call, position: SourcePosition): Promise<FailedCheckpoint | undefined> {
    if (call.failed || this.newest.get(sourceKey(call, position)) !== call) return undefined;
    try {
      await this.enqueue({ ...call, late: undefined }, NO_MESSAGES, 0, true);
      return undefined;
    } catch (error) {
      return { checkpoint: { stream: call.stream, ...position, from: 0, to: 0 }, error };
    }
  }

  /** Without the entries whose stream takes no messages. */
  private async prepared(
    group: readonly Entry[],
    looks: ReadonlyMap<string, Promise<void>>,
  ): Promise<readonly Entry[]> {
    const refused = new Map<string, unknown>();
    const began = this.parts.clock.monotonic();
    await Promise.all([...looks].map(([stream, look]) => look.catch((error: unknown) => refused.set(stream, error))));
    return this.withoutRefused(group, refused, began);
  }

  private withoutRefused(
    group: readonly Entry[],
    refused: ReadonlyMap<string, unknown>,
    began: number,
  ): readonly Entry[] {
    const others: Entry[] = [];
    for (const entry of group) {
      if (entry.isAnswered) continue;
      const refusal = refused.get(entry.call.stream);
      if (refusal === undefined || isOutOfReach(refusal)) others.push(entry);
      else this.fail(entry, notStored(refusal));
    }
    const away = [...refused.values()].find(isStoreAway);
    if (away === undefined) return others;
    // Entries whose stream is known would wait for the same store once more.
    this.tryAgain(others, began, away);
    return [];
  }

  private settle(entry: Entry, outcomes: readonly AppendOutcome[], unstored?: FailedCheckpoint): void {
    if (!this.finish(entry)) return;
    const { call } = entry;
    if (unstored) return entry.reject(new CheckpointError(outcomes, [unstored]));
    if (call.position) call.failed ||= outcomes.some(({ status }) => status === 'failed');
    entry.settle(outcomes);
  }

  private fail(entry: Entry, error: AppendError): void {
    if (entry.messages.length > 0) {
      const outcomes = entry.messages.map((): AppendOutcome => ({ status: 'failed', error }));
      return this.settle(entry, outcomes);
    }
    if (this.finish(entry)) entry.reject(error);
  }

  /** False if it was answered before, because the process shuts down. */
  private finish(entry: Entry): boolean {
    if (entry.isAnswered) return false;
    entry.isAnswered = true;
    this.pending.remove(entry.count, entry.bytes);
    return true;
  }
}
