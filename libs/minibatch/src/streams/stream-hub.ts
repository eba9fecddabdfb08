import { isDeepStrictEqual } from 'node:util';
import type { BackoffOptions } from '../common/backoff.js';
import { type Clock, delay } from '../common/clock.js';
import type { Log } from '../common/log.js';
import type { DrainedStream } from '../consumers/drain.js';
import type { RunningConsumer } from '../consumers/run-time-consumers.js';
import { type StreamRef, streamOf } from '../definitions/stream-ref.js';
import { checkPartitions, type StreamSettings } from '../definitions/stream-settings.js';
import type { Retention } from '../engine/engine.interface.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { shuttingDown } from '../errors/shutting-down.js';
import { unknownStream } from '../errors/store-faults.js';
import { GROWTH_NOTICE } from '../storage/partitions.js';
import { SourceManager } from '../sources/source-manager.js';
import type { AttachedSource, AttachOptions, SourceStatus } from '../sources/source-runner.js';
import type { Source } from '../sources/source.interface.js';
import type {
  AppendOutcome,
  DeadLetter,
  DeadLetterFilter,
  NewMessage,
  StreamInfo,
  StreamStats,
  StreamStore,
  WindowRequest,
} from '../storage/stream-store.interface.js';
import { CallSites } from './call-site.js';
import { DeadLetterAccess } from './dead-letter-access.js';
import { type MessageFilter, MessageReading, type StreamMessage } from './message-reading.js';
import { DEFAULT_PENDING, type PendingLimits } from './pending-limit.js';
import { Removal, type RemovalOptions } from './removal.js';
import { replay, type ReplayOptions } from './replay.js';
import { sourceTarget } from './source-target.js';
import { StoreAccess } from './store-access.js';
import { Stream } from './stream.js';
import type {
  OpenWindowChoice,
  OutgoingMessage,
  SkipChoice,
  StreamChange,
  StreamOperations,
  WriteOptions,
} from './stream-operations.js';
import { StreamDescriptions } from './stream-descriptions.js';
import { StreamWriter } from './stream-writer.js';
import { UnreadStreams } from './unread-streams.js';
import { type StreamWindow, type WindowFilter, WindowReading } from './window-reading.js';
import { WindowRequests } from './window-requests.js';

/** What the hub tells the engine of the same process, if there is one. */
export interface HubListener {
  /** Messages have been stored on the stream; in this partition, if it has several. */
  wake(stream: string, partition?: number): void;
  /** The stream was paused, resumed, cleared, or is to be flushed. */
  refresh(stream: string): Promise<void>;
  /** How long what is in the stream is wanted. */
  retain(stream: string, retention: Retention): void;
  /** How many partitions the stream is declared to have. */
  declare(stream: string, partitions: number): void;
}

export interface HubParts {
  readonly store: StreamStore;
  readonly clock: Clock;
  readonly log: Log;
  /** Waits before a failed source is started again. */
  readonly retry: BackoffOptions;
  /** A lease expires when it is not renewed for this long; milliseconds. @default 15 s */
  readonly leaseTime?: number;
  readonly listener?: HubListener;
  /** @default 100,000 messages, 128 MiB */
  readonly pending?: PendingLimits;
  /** Absent in a process that has no engine. */
  readonly consumers?: Pick<StreamOperations, 'consume' | 'drain'>;
}

/**
 * The streams of a process: one handle for each name, and one owner for each task behind the handles. Knows nothing of Nest;
 * `StreamService` and the client are thin layers around it.
 */
export class StreamHub implements StreamOperations {
  private readonly handles = new Map<string, Stream>();
  private readonly settings = new Map<string, StreamSettings>();
  private readonly access: StoreAccess;
  private readonly unread: UnreadStreams;
  private readonly descriptions: StreamDescriptions;
  private readonly writer: StreamWriter;
  private readonly sourceManager: SourceManager;
  private readonly letters: DeadLetterAccess;
  private readonly requests: WindowRequests;
  private readonly removal: Removal;
  private closing: Promise<void> | undefined;
  readonly callSite: StreamOperations['callSite'];

  constructor(private readonly parts: HubParts) {
    const { store, clock, log, retry, pending = DEFAULT_PENDING, leaseTime } = parts;
    const access = new StoreAccess(store, log);
    const unread = new UnreadStreams(store, clock, log);
    const declared = (stream: string) => this.settings.get(stream)?.partitions;
    const descriptions = new StreamDescriptions(access, clock, declared, (info) => unread.note(info));
    const appended = (stream: string, partition?: number) => parts.listener?.wake(stream, partition);
    const writer = new StreamWriter({ access, descriptions, clock, pending, appended });
    this.callSite = new CallSites(clock).note;
    this.access = access;
    this.unread = unread;
    this.descriptions = descriptions;
    this.writer = writer;
    this.sourceManager = new SourceManager({
      clock,
      log,
      retry,
      target: (stream, source, count) => sourceTarget(access, writer, stream, source, count),
    });
    this.letters = new DeadLetterAccess(access);
    this.requests = new WindowRequests(access, (stream, request) => this.request(stream, request));
    this.removal = new Removal(store, clock, leaseTime);
  }

  /** Opens the store; see `StoreAccess.open`. @throws MinibatchError `ShuttingDown` after `close` */
  open(): Promise<void> {
    return this.access.open();
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
   * Settings of a stream. Every definition with options has to give the same ones.
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
    const { maxBuffered, overflow, partitions } = settings;
    if (maxBuffered !== undefined) this.writer.limit(stream, maxBuffered, overflow === 'wait');
    this.parts.listener?.retain(stream, settings.maxAge);
    if (partitions !== undefined) this.parts.listener?.declare(stream, partitions);
  }

  /** How many partitions the code declares the stream to have. */
  declaredPartitions(stream: string): number | undefined {
    return this.settings.get(stream)?.partitions;
  }

  list(): Promise<readonly StreamInfo[]> {
    return this.access.ask('streams()', (store) => store.listStreams());
  }

  write(
    stream: string,
    messages: readonly OutgoingMessage[],
    options: WriteOptions,
    since: number,
  ): Promise<readonly AppendOutcome[]> {
    return this.writer.write(stream, messages, options, since);
  }

  /** See `StreamWriter.prepare`. */
  prepare(messages: readonly NewMessage[], closing: AbortSignal, source: string): Promise<void> {
    return this.writer.prepare(messages, closing, source);
  }

  async update(stream: string, change: StreamChange): Promise<void> {
    // Messages appended before a flush, a clear or a close have to be in the store when it takes effect.
    await this.writer.answered();
    await this.access.ask(`${nameOfChange(change)} of '${stream}'`, async (store) => {
      const info = await store.updateStream(stream, change);
      this.descriptions.remember(info);
      await this.parts.listener?.refresh(stream);
      if (change.clear && info.groups.length === 0) await store.expire(stream);
    });
  }

  private async request(stream: string, request: WindowRequest): Promise<void> {
    this.descriptions.remember(await this.parts.store.updateStream(stream, { request }));
    await this.parts.listener?.refresh(stream);
  }

  async grow(stream: string, given: number): Promise<void> {
    const where = `grow of '${stream}'`;
    const partitions = checkPartitions(where, given);
    await this.access.ask(where, async (store) => {
      const at = new Date(this.parts.clock.now() + GROWTH_NOTICE);
      this.descriptions.remember(await store.updateStream(stream, { grow: { partitions, at } }));
      await this.parts.listener?.refresh(stream);
    });
  }

  describe(stream: string): Promise<StreamInfo | undefined> {
    return this.access.ask(`describe of '${stream}'`, (store) => store.describeStream(stream));
  }

  async stats(stream: string): Promise<StreamStats> {
    const [stats] = await this.access.ask(`stats of '${stream}'`, (store) => store.stats([stream]));
    if (stats) return stats;
    throw unknownStream(stream);
  }

  messages(stream: string, filter: MessageFilter): AsyncGenerator<StreamMessage, void, undefined> {
    const read = (store: StreamStore) => new MessageReading(store).messages(stream, filter);
    return this.access.askEach(`messages of '${stream}'`, read);
  }

  windows(stream: string, filter: WindowFilter): AsyncGenerator<StreamWindow, void, undefined> {
    const read = (store: StreamStore) => new WindowReading(store).windows(stream, filter);
    return this.access.askEach(`windows of '${stream}'`, read);
  }

  async replay(stream: string, options: ReplayOptions): Promise<number> {
    const count = await this.access.ask(`replay of '${stream}'`, (store) => replay(store, stream, options));
    if (count > 0) this.parts.listener?.wake(stream);
    return count;
  }

  deadLetters(stream: string, filter: DeadLetterFilter): AsyncGenerator<DeadLetter, void, undefined> {
    return this.letters.read(stream, filter);
  }

  async redrive(stream: string, filter: DeadLetterFilter): Promise<number> {
    const count = await this.letters.redrive(stream, filter);
    if (count > 0) this.parts.listener?.wake(stream);
    return count;
  }

  discard(stream: string, filter: DeadLetterFilter): Promise<number> {
    return this.letters.discard(stream, filter);
  }

  giveUp(stream: string, window: OpenWindowChoice): Promise<void> {
    return this.requests.giveUp(stream, window);
  }

  skip(stream: string, window: SkipChoice): Promise<void> {
    return this.requests.skip(stream, window);
  }

  async drop(stream: string, options: RemovalOptions): Promise<void> {
    await this.writer.answered();
    await this.access.ask(`drop of '${stream}'`, () => this.removal.dropStream(stream, options));
    // The next append creates it again.
    this.descriptions.forget(stream);
  }

  async removeGroup(stream: string, group: string, options: RemovalOptions): Promise<void> {
    await this.access.ask(`removeGroup of '${stream}'`, () => this.removal.removeGroup(stream, group, options));
  }

  async consume(stream: string, options: unknown, handler: unknown): Promise<RunningConsumer> {
    return this.consumers(stream).consume(stream, options, handler);
  }

  async drain(stream: string, options: unknown, handler: unknown): Promise<DrainedStream> {
    // Messages that were appended before have to be in the store when the drain looks for them.
    await this.writer.answered();
    return this.consumers(stream).drain(stream, options, handler);
  }

  private consumers(stream: string): Pick<StreamOperations, 'consume' | 'drain'> {
    const { consumers } = this.parts;
    if (consumers && !this.writer.isRefusing) return consumers;
    throw shuttingDown(`consume of '${stream}'`);
  }

  attach(stream: string, source: Source, options?: AttachOptions): AttachedSource {
    if (this.closing) throw shuttingDown(`attach to '${stream}'`);
    return this.sourceManager.attach(stream, source, options);
  }

  sources(): readonly SourceStatus[] {
    return this.sourceManager.status();
  }

  stopSources(): Promise<void> {
    return this.sourceManager.stop();
  }

  /**
   * Stops the sources, refuses further calls, and resolves when all earlier ones are answered: by the store, or after `within`
   * milliseconds by an error.
   */
  close(within: number): Promise<void> {
    this.closing ??= this.finish(within);
    return this.closing;
  }

  private async finish(within: number): Promise<void> {
    this.access.beginClosing();
    this.unread.close();
    const inTime = new AbortController();
    const late = delay(this.parts.clock, within, inTime.signal).then(() => {
      if (!inTime.signal.aborted) this.writer.abandon();
    });
    await this.stopSources();
    this.writer.refuse();
    await this.writer.answered();
    await Promise.race([late, this.descriptions.settled()]);
    inTime.abort();
    this.access.close();
  }
}

/** The method of the handle that asks for it. */
function nameOfChange({ paused, flush, clear }: StreamChange): string {
  if (flush) return 'flush';
  if (clear) return 'clear';
  if (paused !== undefined) return paused ? 'pause' : 'resume';
  return 'close';
}
