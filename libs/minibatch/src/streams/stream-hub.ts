import type { Log } from '../common/log.js';
import { isDeepStrictEqual } from 'node:util';
import type { DrainedStream } from '../consumers/drain.js';
import type { RunningConsumer } from '../consumers/run-time-consumers.js';
import type { Retention } from '../engine/engine.interface.js';
import { AppendError, ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { isOutOfReach, shuttingDown } from '../errors/shutting-down.js';
import type { BackoffOptions } from '../common/backoff.js';
import { checkKeys, checkName, invalidOption } from '../common/checks.js';
import { type Clock, delay } from '../common/clock.js';
import type { Mutable } from '../common/mutable.js';
import { resolveRetry } from '../definitions/shared.options.js';
import {
  type AttachedSource,
  type AttachOptions,
  type OutcomeCounter,
  SourceRunner,
  SourceState,
  type SourceStatus,
} from '../sources/source-runner.js';
import type { Source, SourceTarget } from '../sources/source.interface.js';
import { CheckpointError } from '../storage/checkpoints.js';
import type {
  AppendOutcome,
  DeadLetter,
  DeadLetterFilter,
  NewMessage,
  StreamInfo,
  WindowRecord,
  WindowRequest,
  StreamStats,
  StreamStore,
} from '../storage/stream-store.interface.js';
import { unknownGroup, unknownStream } from '../errors/store-faults.js';
import { notStored } from './append-failures.js';
import { appendOptions } from './append-options.js';
import { AppendQueue, type SourcePosition } from './append-queue.js';
import { checkOutcomes, resultOf } from './append-result.js';
import { BufferLimit } from './buffer-limit.js';
import { checkFilter } from './dead-letter-filter.js';
import { labelsOf } from './message-labels.js';
import { messagesOf } from './message-list.js';
import { type MessageFilter, MessageReading, type StreamMessage } from './message-reading.js';
import { DEFAULT_PENDING, type PendingLimits } from './pending-limit.js';
import { Removal, type RemovalOptions } from './removal.js';
import { toStorable } from './storable.js';
import {
  type OpenWindowChoice,
  type SkipChoice,
  type OutgoingMessage,
  Stream,
  type StreamChange,
  type StreamOperations,
  type WriteOptions,
} from './stream.js';
import { type StreamRef, streamOf } from '../definitions/stream-ref.js';
import { replay, type ReplayOptions } from './replay.js';
import type { StreamSettings } from '../definitions/stream-settings.js';
import { type StreamWindow, type WindowFilter, WindowReading } from './window-reading.js';

/** A stream's description is looked up again when it is older; milliseconds. */
const DESCRIPTION_AGE = 2000;

/** Dead letters read at a time. */
const LETTER_PAGE = 100;

/** What the hub tells the engine of the same process, if there is one. */
export interface HubListener {
  /** Messages have been stored on the stream. */
  wake(stream: string): void;
  /** The stream was paused, resumed, cleared, or is to be flushed. */
  refresh(stream: string): Promise<void>;
  /** How long what is in the stream is wanted. */
  retain(stream: string, retention: Retention): void;
}

export interface HubParts {
  readonly store: StreamStore;
  readonly clock: Clock;
  readonly log: Log;
  /** Waits before a failed source is started again. */
  readonly retry: BackoffOptions;
  /** A lease that is not renewed for so long is up; milliseconds. @default 15 s */
  readonly leaseTime?: number;
  readonly listener?: HubListener;
  /** @default 100,000 messages, 128 MiB */
  readonly pending?: PendingLimits;
  /** Absent in a process that has no engine. */
  readonly consumers?: Pick<StreamOperations, 'consume' | 'drain'>;
}

interface Described {
  info: StreamInfo;
  /** Monotonic time of the look. */
  at: number;
}

/**
 * All that a process does to streams from the producing side: one handle a stream, one queue of writes, the sources that
 * feed them. Knows nothing of Nest; `StreamService` and the client are thin around it.
 */
export class StreamHub implements StreamOperations {
  private readonly handles = new Map<string, Stream>();
  private readonly descriptions = new Map<string, Described>();
  private readonly looks = new Map<string, Promise<Described>>();
  private readonly runners = new Set<SourceRunner>();
  private readonly settings = new Map<string, StreamSettings>();
  private readonly limits = new Map<string, BufferLimit>();
  private readonly stopping = new AbortController();
  private readonly queue: AppendQueue;
  private readonly removal: Removal;
  private opening: Promise<void> | undefined;
  private isOpen = false;
  private closing: Promise<void> | undefined;
  private refusing = false;
  private isClosed = false;

  constructor(private readonly parts: HubParts) {
    this.queue = new AppendQueue({
      store: parts.store,
      clock: parts.clock,
      limits: parts.pending ?? DEFAULT_PENDING,
      prepare: (stream) => this.prepare(stream),
      look: (stream) => this.look(stream),
      appended: (stream) => parts.listener?.wake(stream),
    });
    this.removal = new Removal(parts.store, parts.clock, parts.leaseTime);
  }

  /** Opens the store, once; what failed is tried again with the next call. @throws MinibatchError `ShuttingDown` after `close` */
  async open(): Promise<void> {
    if (this.isClosed) throw shuttingDown('open the store');
    this.opening ??= this.parts.store.open().then(
      async () => {
        this.isOpen = true;
        // It took so long that the store has been closed meanwhile.
        if (this.isClosed) await this.parts.store.close();
      },
      (error: unknown) => {
        this.opening = undefined;
        throw error;
      },
    );
    await this.opening;
  }

  /** Asks the open store. What fails because it was closed meanwhile says so. @param what the call, for errors */
  private async ask<R>(what: string, call: (store: StreamStore) => Promise<R>): Promise<R> {
    if (this.isClosed) throw shuttingDown(what);
    try {
      await this.open();
      return await call(this.parts.store);
    } catch (error) {
      throw this.closing && isOutOfReach(error) ? shuttingDown(what, { cause: error }) : error;
    }
  }

  /** The same for what comes page by page. */
  private async *askEach<I>(
    what: string,
    read: (store: StreamStore) => AsyncGenerator<I, void, undefined>,
  ): AsyncGenerator<I, void, undefined> {
    const items = read(this.parts.store);
    for (;;) {
      const next = await this.ask(what, () => items.next());
      if (next.done) return;
      yield next.value;
    }
  }

  stream<T>(stream: string | StreamRef<T>): Stream<T> {
    const { stream: name, settings } = streamOf('stream()', stream);
    this.define(name, settings);
    let handle = this.handles.get(name);
    if (!handle) {
      handle = new Stream(name, this);
      this.handles.set(name, handle);
    }
    // A name stands for one type; which, only the caller can know.
    return handle as Stream<T>;
  }

  /**
   * What holds for a stream. Where it is defined more than once, with options, they are to be the same.
   *
   * @throws MinibatchError `InvalidOptions`
   */
  define(stream: string, settings: StreamSettings | undefined): void {
    const known = this.settings.get(stream);
    if (settings === undefined || isDeepStrictEqual(settings, known)) return;
    if (known !== undefined) {
      throw new MinibatchError(
        ErrorCode.InvalidOptions,
        `the stream '${stream}' is defined twice, with different options: export one defineStream() and use it everywhere`,
        { details: { stream, options: [known, settings] } },
      );
    }
    this.settings.set(stream, settings);
    if (settings.maxBuffered !== undefined) {
      const { store, clock } = this.parts;
      const limit = new BufferLimit(stream, settings.maxBuffered, store, clock, this.stopping.signal);
      this.limits.set(stream, limit);
    }
    this.parts.listener?.retain(stream, settings.maxAge);
  }

  write(
    stream: string,
    messages: readonly OutgoingMessage[],
    options: WriteOptions = {},
  ): Promise<readonly AppendOutcome[]> {
    return this.writeAs(stream, messages, options, this.settings.get(stream)?.overflow === 'wait');
  }

  /** Copies and checks the messages before anything else happens, so later changes by the caller do not matter. */
  private writeAs(
    stream: string,
    messages: readonly OutgoingMessage[],
    options: WriteOptions & { readonly position?: SourcePosition },
    waits: boolean,
  ): Promise<readonly AppendOutcome[]> {
    if (this.refusing) {
      throw new AppendError(ErrorCode.ShuttingDown, `append to '${stream}': the application is shutting down`, 'no');
    }
    const now = new Date(this.parts.clock.now());
    const outgoing = messages.map((message, index) => this.outgoing(stream, now, message, index, messages.length));
    const admitted = outgoing.length > 0 ? this.admit(stream, outgoing.length, waits) : undefined;
    if (!admitted) return this.send(stream, outgoing, options, waits);
    return admitted.then(() => {
      const created = new Date(this.parts.clock.now());
      const late = outgoing.map((message) => ({ ...message, created }));
      return this.send(stream, late, options, waits);
    });
  }

  private send(
    stream: string,
    messages: readonly NewMessage[],
    { session, position }: WriteOptions & { readonly position?: SourcePosition },
    waits: boolean,
  ): Promise<readonly AppendOutcome[]> {
    if (session !== undefined && session !== null) return this.writeInSession(stream, messages, session);
    if (messages.length === 0 && !position) return Promise.resolve([]);
    return this.queue.add(stream, messages, position, waits);
  }

  private admit(stream: string, messages: number, waits: boolean): Promise<void> | undefined {
    const limit = this.limits.get(stream);
    if (!limit) return undefined;
    // The store has to be there to be asked.
    if (this.isOpen) return limit.admit(messages, waits);
    return this.open().then(
      () => limit.admit(messages, waits),
      (error: unknown) => Promise.reject(notStored(error)),
    );
  }

  /** In the user's transaction, so it can't share a write with others. The stream is prepared outside of it. */
  private async writeInSession(
    stream: string,
    messages: readonly NewMessage[],
    session: unknown,
  ): Promise<readonly AppendOutcome[]> {
    await this.prepare(stream)?.catch((error: unknown) => Promise.reject(notStored(error)));
    // What it fails with passes unchanged: a driver repeats a transaction only for its own errors.
    const outcomes = await this.parts.store.append(messages, { session });
    this.parts.listener?.wake(stream);
    return outcomes;
  }

  private outgoing(
    stream: string,
    created: Date,
    { data, options }: OutgoingMessage,
    index: number,
    count: number,
  ): NewMessage {
    const { value, bytes, bigints } = toStorable(data, this.parts.store.maxMessageBytes);
    const message: Mutable<NewMessage> = { stream, data: value, bytes, bigints, created };
    if (options === undefined) return message;
    // Put together only when it is needed: this is done for every message.
    const where = () => (count === 1 ? `append to '${stream}'` : `append to '${stream}', message ${index}`);
    return Object.assign(message, labelsOf(where, options));
  }

  /** Creates the stream, once in the life of the process; refuses a closed one. Undefined if it is known to take messages. */
  private prepare(stream: string): Promise<void> | undefined {
    const described = this.descriptions.get(stream);
    // A closed one may have been opened again since.
    if (described === undefined || described.info.status === 'closed') return this.lookClosely(stream);
    if (this.parts.clock.monotonic() - described.at > DESCRIPTION_AGE && !this.looks.has(stream)) {
      // Another process may have closed it: look for the sake of later appends, this one does not wait. If the look fails,
      // the append says it.
      this.look(stream).catch(() => undefined);
    }
    return undefined;
  }

  private async lookClosely(stream: string): Promise<void> {
    const { info } = await this.look(stream);
    if (info.status !== 'closed') return;
    throw new AppendError(
      ErrorCode.StreamClosed,
      `the stream '${stream}' was closed and takes no more messages: append to another one`,
      'no',
      { details: { stream } },
    );
  }

  private look(stream: string): Promise<Described> {
    const underWay = this.looks.get(stream);
    if (underWay) return underWay;
    const look = this.open()
      .then(() => this.parts.store.ensureStream(stream))
      .then((info) => this.remember(info))
      .finally(() => this.looks.delete(stream));
    this.looks.set(stream, look);
    return look;
  }

  private remember(info: StreamInfo): Described {
    const described = { info, at: this.parts.clock.monotonic() };
    this.descriptions.set(info.name, described);
    return described;
  }

  async update(stream: string, change: StreamChange): Promise<void> {
    // Messages appended before a flush, a clear or a close are to be in the store when it takes effect.
    await this.queue.answered();
    await this.ask(`${nameOfChange(change)} of '${stream}'`, async (store) => {
      const { info } = this.remember(await store.updateStream(stream, change));
      await this.parts.listener?.refresh(stream);
      if (change.clear && info.groups.length === 0) await store.expire(stream);
    });
  }

  async stats(stream: string): Promise<StreamStats> {
    const [stats] = await this.ask(`stats of '${stream}'`, (store) => store.stats([stream]));
    if (stats) return stats;
    throw new MinibatchError(
      ErrorCode.UnknownStream,
      `there is no stream '${stream}': it comes into being with the first append, or with its consumer`,
      { details: { stream } },
    );
  }

  messages(stream: string, filter: MessageFilter): AsyncGenerator<StreamMessage, void, undefined> {
    return this.askEach(`messages of '${stream}'`, (store) => new MessageReading(store).messages(stream, filter));
  }

  windows(stream: string, filter: WindowFilter): AsyncGenerator<StreamWindow, void, undefined> {
    return this.askEach(`windows of '${stream}'`, (store) => new WindowReading(store).windows(stream, filter));
  }

  async replay(stream: string, options: ReplayOptions): Promise<number> {
    const count = await this.ask(`replay of '${stream}'`, (store) => replay(store, stream, options));
    if (count > 0) this.parts.listener?.wake(stream);
    return count;
  }

  async *deadLetters(stream: string, given: DeadLetterFilter): AsyncGenerator<DeadLetter, void, undefined> {
    const what = `deadLetters of '${stream}'`;
    const filter = checkFilter(what, given);
    for (let after: string | undefined; ;) {
      const from = after;
      const page = await this.ask(what, (store) => store.deadLetters(stream, filter, from, LETTER_PAGE));
      yield* page;
      if (page.length < LETTER_PAGE) return;
      after = page.at(-1)?.id;
    }
  }

  async redrive(stream: string, filter: DeadLetterFilter): Promise<number> {
    const what = `redrive of '${stream}'`;
    const checked = checkFilter(what, filter);
    const count = await this.ask(what, (store) => store.redrive(stream, checked));
    if (count > 0) this.parts.listener?.wake(stream);
    return count;
  }

  async discard(stream: string, filter: DeadLetterFilter): Promise<number> {
    const what = `discard of '${stream}'`;
    const checked = checkFilter(what, filter);
    return this.ask(what, (store) => store.discard(stream, checked));
  }

  async drop(stream: string, options: RemovalOptions): Promise<void> {
    await this.queue.answered();
    await this.ask(`drop of '${stream}'`, () => this.removal.dropStream(stream, options));
    // The next append makes it anew.
    this.descriptions.delete(stream);
  }

  async removeGroup(stream: string, group: string, options: RemovalOptions): Promise<void> {
    await this.ask(`removeGroup of '${stream}'`, () => this.removal.removeGroup(stream, group, options));
  }

  async giveUp(stream: string, given: OpenWindowChoice): Promise<void> {
    const where = `giveUp of '${stream}'`;
    checkKeys(where, given, ['group', 'window']);
    await this.ask(where, async () => {
      const { group, window } = await this.openWindow(stream, where, given);
      await this.request(stream, { group, window: window.id, action: 'giveUp' });
    });
  }

  async skip(stream: string, given: SkipChoice): Promise<void> {
    const where = `skip of '${stream}'`;
    checkKeys(where, given, ['group', 'window', 'sink']);
    const sink = given.sink === undefined ? undefined : checkText(where, 'sink', given.sink);
    await this.ask(where, () => this.skipSink(stream, where, given, sink));
  }

  private async skipSink(stream: string, where: string, given: SkipChoice, sink: string | undefined): Promise<void> {
    const { group, window } = await this.openWindow(stream, where, given);
    const blocked = window.blockedSinks ?? [];
    if (blocked.length === 0 || (sink !== undefined && !blocked.includes(sink))) {
      const why =
        blocked.length === 0
          ? 'no sink has failed to take a result of it: its method is not through, or a sink has not answered yet (retry.sinkTimeout ' +
            'bounds that); use giveUp if its method fails'
          : `sink '${sink}' has not failed to take a result of it, but ${blocked.map((name) => `'${name}'`).join(', ')}`;
      throw new MinibatchError(ErrorCode.WindowNotBlocked, `${where}: window '${window.id}' can't go on yet: ${why}`, {
        details: { stream, group, window: window.id, ...(sink === undefined ? {} : { sink }), blockedSinks: blocked },
      });
    }
    const request = { group, window: window.id, action: 'skip' } as const;
    await this.request(stream, sink === undefined ? request : { ...request, sink });
  }

  private async request(stream: string, request: WindowRequest): Promise<void> {
    this.remember(await this.parts.store.updateStream(stream, { request }));
    await this.parts.listener?.refresh(stream);
  }

  private async openWindow(
    stream: string,
    where: string,
    given: OpenWindowChoice,
  ): Promise<{ readonly group: string; readonly window: WindowRecord }> {
    const group = checkName(where, 'group', given.group ?? 'default');
    const window = checkText(where, 'window', given.window);
    const { store } = this.parts;
    const info = await store.describeStream(stream);
    if (!info) throw unknownStream(stream);
    if (!info.groups.includes(group)) throw unknownGroup(stream, group);
    const found = await store.findWindow({ stream, group, partition: 0 }, window);
    if (!found) {
      throw new MinibatchError(
        ErrorCode.UnknownWindow,
        `${where}: group '${group}' has no open window '${window}': it is committed, or the id is that of a part; give window.split.of then`,
        { details: { stream, group, window } },
      );
    }
    return { group, window: found };
  }

  async consume(stream: string, options: unknown, handler: unknown): Promise<RunningConsumer> {
    return this.consumers(stream).consume(stream, options, handler);
  }

  async drain(stream: string, options: unknown, handler: unknown): Promise<DrainedStream> {
    // Messages that were appended before are to be in the store when it looks.
    await this.queue.answered();
    return this.consumers(stream).drain(stream, options, handler);
  }

  private consumers(stream: string): Pick<StreamOperations, 'consume' | 'drain'> {
    const { consumers } = this.parts;
    if (consumers && !this.refusing) return consumers;
    throw shuttingDown(`consume of '${stream}'`);
  }

  describe(stream: string): Promise<StreamInfo | undefined> {
    return this.ask(`describe of '${stream}'`, (store) => store.describeStream(stream));
  }

  list(): Promise<readonly StreamInfo[]> {
    return this.ask('streams()', (store) => store.listStreams());
  }

  attach(stream: string, source: Source, options: AttachOptions = {}): AttachedSource {
    if (this.closing) throw shuttingDown(`attach to '${stream}'`);
    const where = `source of '${stream}'`;
    checkSource(where, source);
    checkKeys(where, options, ['name', 'retry']);
    const name = checkName(where, 'name', options.name ?? nameOf(source));
    for (const runner of this.runners) {
      const { status } = runner;
      if (status.stream !== stream || status.name !== name) continue;
      if (status.state !== SourceState.Done && status.state !== SourceState.Stopped) {
        throw invalidOption(
          where,
          'name',
          name,
          'one that no other source of the stream has; a position is kept under it',
        );
      }
      this.runners.delete(runner);
    }
    const runner = new SourceRunner({
      name,
      source,
      target: (count) => this.target(stream, name, count),
      clock: this.parts.clock,
      log: this.parts.log,
      retry: resolveRetry(where, options.retry, this.parts.retry),
    });
    this.runners.add(runner);
    runner.start();
    return runner;
  }

  sources(): readonly SourceStatus[] {
    return [...this.runners].map((runner) => runner.status);
  }

  async stopSources(): Promise<void> {
    await Promise.all([...this.runners].map((runner) => runner.detach()));
  }

  /**
   * Stops the sources, then refuses what comes, and resolves when all that came before is answered: by the store, or after `within`
   * milliseconds by an error.
   */
  close(within: number): Promise<void> {
    this.closing ??= this.finish(within);
    return this.closing;
  }

  private async finish(within: number): Promise<void> {
    const inTime = new AbortController();
    const late = delay(this.parts.clock, within, inTime.signal).then(() => {
      if (!inTime.signal.aborted) this.queue.abandon();
    });
    await this.stopSources();
    this.refusing = true;
    this.stopping.abort();
    await this.queue.answered();
    await Promise.race([late, Promise.allSettled(this.looks.values())]);
    inTime.abort();
    this.isClosed = true;
  }

  private target(stream: string, source: string, count: OutcomeCounter): SourceTarget<unknown> {
    const write = async (
      messages: readonly OutgoingMessage[],
      position: unknown,
    ): Promise<readonly AppendOutcome[]> => {
      const { maxMessageBytes } = this.parts.store;
      const options =
        position === undefined ? {} : { position: { source, position: toStorable(position, maxMessageBytes).value } };
      const outcomes = await this.writeAs(stream, messages, options, true).catch((error: unknown) => {
        if (error instanceof CheckpointError) count(error.outcomes);
        throw error;
      });
      count(outcomes);
      return outcomes;
    };
    return {
      name: stream,
      source,
      append: async (data, options = {}) => {
        const { position, ...message } = appendOptions(`append to '${stream}'`, options, 'sourceAppend');
        const [outcome] = await write([{ data, options: message }], position);
        resultOf(outcome);
      },
      appendMany: async (data, options = {}) => {
        const { position, each } = appendOptions(`appendMany to '${stream}'`, options, 'sourceAppendMany');
        const messages = messagesOf(stream, data, each);
        checkOutcomes(stream, await write(messages, position));
      },
      position: () => this.ask(`position of source ${source}`, (store) => store.readCheckpoint(stream, source)),
    };
  }
}

function checkText(where: string, option: string, given: unknown): string {
  if (typeof given === 'string') return given;
  throw invalidOption(where, option, given, 'a string');
}

/** The method of the handle that asks for it. */
function nameOfChange({ paused, flush, clear }: StreamChange): string {
  if (flush) return 'flush';
  if (clear) return 'clear';
  if (paused !== undefined) return paused ? 'pause' : 'resume';
  return 'close';
}

/** @throws MinibatchError `InvalidOptions` */
function checkSource(where: string, source: unknown): void {
  if (typeof source === 'object' && source !== null && 'stream' in source && typeof source.stream === 'function')
    return;
  throw invalidOption(where, 'source', source, 'an instance with a method stream(target, signal)');
}

/** The class, or a word for a plain object. */
function nameOf(source: object): string {
  const name = source.constructor?.name;
  return name && name !== 'Object' ? name : 'source';
}
