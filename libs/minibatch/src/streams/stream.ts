import type { DrainedStream } from '../consumers/drain.js';
import type { RunningConsumer } from '../consumers/run-time-consumers.js';
import type { DrainOptions, RunsInline, StreamingOptions } from '../consumers/streaming.options.js';
import type { ResultFor, SinkRef } from '../sinks/sink-ref.js';
import type { AttachedSource, AttachOptions } from '../sources/source-runner.js';
import type { Source } from '../sources/source.interface.js';
import type {
  AppendOutcome,
  DeadLetter,
  DeadLetterFilter,
  StreamInfo,
  StreamStats,
} from '../storage/stream-store.interface.js';
import type { Stored } from '../windows/stored.js';
import type { Window } from '../windows/window.js';
import { appendOptions } from './append-options.js';
import { type AppendResult, resultOf, resultsOf } from './append-result.js';
import { failureOf } from './call-site.js';
import { messagesOf } from './message-list.js';
import type { MessageFilter, StreamMessage } from './message-reading.js';
import type { RemovalOptions } from './removal.js';
import type { ReplayOptions } from './replay.js';
import type { StreamWindow, WindowFilter } from './window-reading.js';
import type {
  AppendManyOptions,
  AppendMessageOptions,
  OpenWindowChoice,
  SkipChoice,
  StreamOperations,
  WriteOptions,
} from './stream-operations.js';

const NO_OPTIONS: WriteOptions = {};

/**
 * Handle of one stream. Cheap to keep: it holds no state of its own, and a process has one for each name. After the end of the
 * application every call fails with the code `ShuttingDown`.
 *
 * @typeParam T what the stream's messages are
 */
export class Stream<T = unknown> {
  /** @internal */
  constructor(
    readonly name: string,
    private readonly operations: StreamOperations,
  ) {}

  /**
   * Stores a message durably; creates the stream if it is not there. `data` is copied at the call. Calls that are made
   * while a write is in flight form the next write, in the order of the calls.
   *
   * @throws AppendError with `stored`: `'no'` or `'unknown'`; codes `NotStorable`, `MessageTooLarge`, `StreamFull`,
   *   `StreamClosed`, `ShuttingDown`, `StoreUnavailable`, `StoreDenied`, `StoreRefused`, `AppendFailed`; `InvalidOptions` for an option that does not exist
   * @example
   * ```ts
   * const { id } = await flights.append({ origin: 'SAT', delay: 25 }, { dedupeId: 'UA-42' });
   * ```
   */
  async append(data: T, options?: AppendMessageOptions): Promise<AppendResult> {
    const site = this.operations.callSite();
    try {
      const outcomes = await (options === undefined
        ? this.operations.write(this.name, [{ data }], NO_OPTIONS, site.since)
        : this.appendWith(data, options, site.since));
      return resultOf(outcomes[0]);
    } catch (error) {
      throw failureOf(this.name, site, error);
    }
  }

  private appendWith(data: T, options: AppendMessageOptions, since: number): Promise<readonly AppendOutcome[]> {
    const { session, ...own } = appendOptions(`append to '${this.name}'`, options, 'append');
    return this.operations.write(this.name, [{ data, options: own }], { session }, since);
  }

  /**
   * Stores many messages, in order; the results are in the order of `data`. What can't be stored is noticed before anything
   * is written.
   *
   * @throws AppendError — if messages failed, `details.failed` tells which ({@link FailedAppend}), and
   *   `details.results` has the results of the others
   */
  async appendMany(data: readonly T[], options: AppendManyOptions<T> = {}): Promise<readonly AppendResult[]> {
    const site = this.operations.callSite();
    try {
      const { each, session } = appendOptions(`appendMany to '${this.name}'`, options, 'appendMany');
      const messages = messagesOf(this.name, data, each);
      return resultsOf(this.name, await this.operations.write(this.name, messages, { session }, site.since));
    } catch (error) {
      throw failureOf(this.name, site, error);
    }
  }

  /**
   * Feeds the stream from a source until `detach()` is called or the application shuts down. A source that fails is started again
   * with backoff; its state is in the status.
   *
   * @throws MinibatchError `InvalidOptions` if a source of that name feeds the stream already
   */
  attach(source: Source<T>, options: AttachOptions = {}): AttachedSource {
    return this.operations.attach(this.name, source, options);
  }

  /** Consumers start no new windows, in all processes, until `resume()`. Messages can still be appended. */
  async pause(): Promise<void> {
    await this.operations.update(this.name, { paused: true });
  }

  async resume(): Promise<void> {
    await this.operations.update(this.name, { paused: false });
  }

  /** Asks all consumers, in all processes, to emit what is buffered now, without waiting for a window to be ready. */
  async flush(): Promise<void> {
    await this.operations.update(this.name, { flush: true });
  }

  /**
   * Removes what has been appended so far and is not claimed yet, in all processes: consumers commit it unhandled, now if they run,
   * otherwise as soon as they do. It goes by what is in the stream, whatever the clocks say: messages acknowledged before the call
   * are removed, messages appended after it has resolved stay. Dead letters, kept messages and what `redrive` has put back stay, too. A process
   * that has read messages ahead may still handle them until it learns of it, a moment later.
   *
   * @throws MinibatchError `UnknownStream`
   */
  async clear(): Promise<void> {
    await this.operations.update(this.name, { clear: true });
  }

  /**
   * Gives the stream more partitions, in all processes: a multiple of those it has. Ten seconds later, messages go to the new ones. A consumer begins
   * with a new one when it has handled what was appended before, so that messages of a key stay in order. There is no way back.
   *
   * @throws MinibatchError `InvalidPartitions`, `InvalidOptions`, `UnknownStream`
   * @example
   * ```ts
   * await orders.grow(8);
   * ```
   */
  grow(partitions: number): Promise<void> {
    return this.operations.grow(this.name, partitions);
  }

  /**
   * What lies in the stream, in the order of the messages' ids: `waiting`, `claimed` and `kept` messages, or those that the filter picks.
   * Read-only: it takes no lease, and no consumer notices. Read page by page, each page as of its reading; what is appended meanwhile
   * may be among them. A message that can't be decoded does not end it: see `undecodable`.
   *
   * @throws MinibatchError `InvalidOptions`, `UnknownGroup`, `StoreUnsupported`
   * @example
   * ```ts
   * for await (const { id, state, data } of flights.messages({ state: 'waiting' })) console.log(id, state, data);
   * ```
   */
  messages(filter: MessageFilter = {}): AsyncGenerator<StreamMessage<T>, void, undefined> {
    // What the messages are, only the caller can know.
    return this.operations.messages(this.name, filter) as AsyncGenerator<StreamMessage<T>, void, undefined>;
  }

  /**
   * Windows of the stream's consumers: of each group those that are `claimed`, in the order of their claims, then those that are `kept`; or
   * those that the filter picks. Read-only, as `messages`; messages are given by their ids.
   *
   * @throws MinibatchError `InvalidOptions`, `UnknownGroup`, `StoreUnsupported`
   * @example
   * ```ts
   * for await (const { id, attempt, error } of flights.windows({ state: 'claimed' })) console.log(id, attempt, error);
   * ```
   */
  windows(filter: WindowFilter = {}): AsyncGenerator<StreamWindow, void, undefined> {
    return this.operations.windows(this.name, filter);
  }

  /**
   * Hands kept messages (`keep: true`) to a group again: copies of them, in the order of their ids, behind what is in the stream and for
   * this group alone. What is kept stays kept, and the copies are not. Resolves with how many messages were handed over; those that are not
   * kept any more, or not yet, are not among them.
   *
   * While a message that was handed over waits for the group, another call passes over it: a call that was cut off may be repeated, and hands
   * over the rest. Once the group has committed it, another call hands it over once more.
   *
   * @throws MinibatchError `InvalidOptions`, `UnknownStream`, `UnknownGroup`, `StoreUnsupported`
   * @example
   * ```ts
   * await flights.replay({ group: 'report', from: new Date('2026-01-01'), to: new Date('2026-01-02') });
   * ```
   */
  replay(options: ReplayOptions = {}): Promise<number> {
    return this.operations.replay(this.name, options);
  }

  /**
   * The messages that consumers gave up, with what they failed with; in the order in which they died, roughly. Read page by
   * page, so there may be any number.
   *
   * @throws MinibatchError `InvalidOptions` if the filter has other fields, or nonsense in them
   * @example
   * ```ts
   * for await (const { data, error } of flights.deadLetters({ group: 'report' })) console.log(error, data);
   * ```
   */
  deadLetters(filter: DeadLetterFilter = {}): AsyncGenerator<DeadLetter, void, undefined> {
    return this.operations.deadLetters(this.name, filter);
  }

  /**
   * Puts dead letters back, behind what is in the stream and for the group that gave them up alone, with their attempts
   * forgotten. Resolves with how many. @default all of the stream
   *
   * @throws MinibatchError `InvalidOptions` if the filter has other fields, or nonsense in them
   */
  redrive(filter: DeadLetterFilter = {}): Promise<number> {
    return this.operations.redrive(this.name, filter);
  }

  /**
   * Removes dead letters for good. Resolves with how many. @default all of the stream
   *
   * @throws MinibatchError `InvalidOptions` if the filter has other fields, or nonsense in them
   */
  discard(filter: DeadLetterFilter = {}): Promise<number> {
    return this.operations.discard(this.name, filter);
  }

  /**
   * Gives up an open window that blocks its group, in whichever process holds the lease: messages not yet handled become dead letters,
   * with the last error. A run of the method in progress ends first, and if it succeeds nothing is given up. Resolves when the
   * request is stored; the process that holds the lease carries it out within seconds.
   *
   * @throws MinibatchError `UnknownStream`, `UnknownGroup`, `UnknownWindow`; `InvalidOptions` for other fields
   * @example
   * ```ts
   * await flights.giveUp({ group: 'report', window: 'flights/report/5d1c0e…' });
   * ```
   */
  giveUp(window: OpenWindowChoice): Promise<void> {
    return this.operations.giveUp(this.name, window);
  }

  /**
   * Commits an open window without the sink that does not take its result, in whichever process works for the group. For a window whose
   * method is through: its messages are done, and only this sink never gets the result. Other sinks are waited for. An attempt in
   * progress ends first, and if it succeeds nothing is skipped; after a restart the method runs once more and the sink is tried once.
   * Resolves when the request is stored; the process that holds the lease carries it out within seconds.
   *
   * @throws MinibatchError `WindowNotBlocked` if no sink (not this one) has failed to take the result: `giveUp` is for a method that
   * fails; `UnknownStream`, `UnknownGroup`, `UnknownWindow`; `InvalidOptions` for other fields
   * @example
   * ```ts
   * await flights.skip({ group: 'report', window: 'flights/report/5d1c0e…', sink: 'Ledger' });
   * ```
   */
  skip(window: SkipChoice): Promise<void> {
    return this.operations.skip(this.name, window);
  }

  /**
   * Starts a consumer now, with the options of `@Streaming`: `fn` is called with windows of the stream's messages, and what it returns
   * goes to the sinks. Resolves when its group is registered. It runs until `stop()` or the end of the application, whatever
   * `autoStart` and `consumers` say.
   *
   * @throws MinibatchError `InvalidOptions`, `DuplicateGroup`, `UnresolvedProvider`, `ShuttingDown`
   * @example
   * ```ts
   * const consumer = await flights.consume({ size: 2, group: 'report' }, (window) => report(window.data));
   * await consumer.stop();
   * ```
   */
  consume<const S extends SinkRef | readonly SinkRef[] = never>(
    options: StreamingOptions<S> & RunsInline,
    fn: (window: Window<Stored<T>>) => ResultFor<S>,
  ): Promise<RunningConsumer> {
    return this.operations.consume(this.name, options, fn);
  }

  /**
   * Handles what is in the stream and resolves: as `consume`, but the last window need not be full or due. Messages that arrive
   * meanwhile may be handled too. A drain without progress for as long as the attempts at a window may take (`retry`; at least 5 s) rejects.
   *
   * @throws MinibatchError `DrainBlocked`, and what `consume` throws; the reason of `signal` once that is aborted
   * @example
   * ```ts
   * const { windows, messages } = await flights.drain({ size: 100, group: 'report' }, (window) => report(window.data));
   * ```
   */
  drain<const S extends SinkRef | readonly SinkRef[] = never>(
    options: StreamingOptions<S> & DrainOptions & RunsInline,
    fn: (window: Window<Stored<T>>) => ResultFor<S>,
  ): Promise<DrainedStream> {
    return this.operations.drain(this.name, options, fn);
  }

  /** Counted in the store. @throws MinibatchError `UnknownStream` */
  stats(): Promise<StreamStats> {
    return this.operations.stats(this.name);
  }

  /** As it is stored; undefined if nothing was ever appended or consumed. */
  describe(): Promise<StreamInfo | undefined> {
    return this.operations.describe(this.name);
  }

  /**
   * Closes the stream for good, in all processes: it takes no more messages (other processes notice within seconds); those
   * in it are still consumed.
   */
  async close(): Promise<void> {
    await this.operations.update(this.name, { status: 'closed' });
  }

  /**
   * Removes a group that no consumer serves any more: its open windows, its progress, and the messages that only it held back. Its dead
   * letters stay, and so do the messages that it has kept. If a process on another host held the group's lease last and may be alive, this takes up to a lease time (15 s) to find out.
   * A consumer that still runs with `force` loses its lease, and does not come back before its process is restarted.
   *
   * @throws MinibatchError `GroupInUse` while a live process consumes the group; `UnknownStream`, `UnknownGroup`, `InvalidOptions`
   */
  removeGroup(group: string, options: RemovalOptions = {}): Promise<void> {
    return this.operations.removeGroup(this.name, group, options);
  }

  /**
   * Removes the stream for good, with all it has: messages, windows, dead letters, groups, and the positions of its sources. The next
   * append makes a new stream of that name; so do consumers of this process, and with `force` those of others. Takes up to a lease time
   * (15 s), as `removeGroup`.
   *
   * @throws MinibatchError `GroupInUse` while a live consumer of another process holds a lease; `UnknownStream`, `InvalidOptions`
   */
  drop(options: RemovalOptions = {}): Promise<void> {
    return this.operations.drop(this.name, options);
  }
}
