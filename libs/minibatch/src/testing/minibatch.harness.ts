import type { Type } from '@nestjs/common';
import { ConsumerState, type ConsumerStatus } from '../engine/engine.interface.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { checkDuration } from '../common/checks.js';
import type { Clock } from '../common/clock.js';
import type { ConsumerRegistry } from '../consumers/consumer.registry.js';
import type { Duration } from '../definitions/shared.options.js';
import type { DeadLetter, DeadLetterFilter } from '../storage/stream-store.interface.js';
import type { Sink } from '../sinks/sink.interface.js';
import type { AppendManyOptions, AppendMessageOptions } from '../streams/stream-operations.js';
import type { StreamHub } from '../streams/stream-hub.js';
import { type StreamRef, streamName } from '../definitions/stream-ref.js';
import type { Stored } from '../windows/stored.js';
import type { RecordedRejection, RecordedWindow, RecordingEngine } from './recording-engine.js';
import type { FailingSink } from './sink-faults.js';
import { VirtualClock } from './virtual-clock.js';

/** The methods of a class. */
type MethodOf<C> = { [K in keyof C]: C[K] extends (...args: never[]) => unknown ? K : never }[keyof C] & string;
type ResultOf<C, M extends keyof C> = C[M] extends (...args: never[]) => infer R ? Awaited<R> : never;

/**
 * Drives an application under test: appends, moves the clock, and tells what the consumers were given and returned. Every method
 * resolves when all that it started has come to rest.
 *
 * @example
 * ```ts
 * const app = await Test.createTestingModule({
 *   imports: [MinibatchTestingModule.forRoot()],
 *   providers: [FlightReport],
 * }).compile();
 * await app.init();
 * const harness = app.get(MinibatchHarness);
 *
 * await harness.append('flights', { delay: 25 });
 * await harness.advance('2s');
 * expect(harness.results(FlightReport, 'summarize')).toEqual([{ flights: 1, worst: 25 }]);
 * ```
 */
export class MinibatchHarness {
  /** Those that have not resolved. */
  private readonly restarts = new Set<Promise<void>>();

  constructor(
    private readonly engine: RecordingEngine,
    private readonly hub: StreamHub,
    /** The application's clock: a `VirtualClock` unless another was chosen. */
    readonly clock: Clock,
    private readonly leaseTime: number,
    private readonly registry: ConsumerRegistry,
  ) {}

  /** Appends one message. */
  async append<T>(stream: string | StreamRef<T>, data: NoInfer<T>, options?: AppendMessageOptions): Promise<void> {
    await this.hub.stream(stream).append(data, options);
    await this.settled();
  }

  /** Appends several messages as one write. */
  async appendMany<T>(
    stream: string | StreamRef<T>,
    data: readonly NoInfer<T>[],
    options?: AppendManyOptions<NoInfer<T>>,
  ): Promise<void> {
    await this.hub.stream(stream).appendMany(data, options);
    await this.settled();
  }

  /** Lets time pass: windows close, backoffs end, leases are renewed, each at its moment. @throws without a virtual clock */
  async advance(time: Duration): Promise<void> {
    const clock = this.virtualClock('advance', 'wait with waitForWindow');
    const ms = checkDuration('MinibatchHarness.advance', 'time', time, { min: 0 });
    await clock.advance(ms, () => this.settled());
  }

  /** Emits the tail of the stream now. */
  async flush(stream: string | StreamRef): Promise<void> {
    await this.hub.stream(stream).flush();
    await this.settled();
  }

  /** Resolves when nothing is in flight that does not wait for the clock or for messages. */
  async settled(): Promise<void> {
    await this.engine.settled();
    while (this.restarts.size > 0) {
      await Promise.allSettled(this.restarts);
      await this.engine.settled();
    }
  }

  /** What the method returned, for each window that it handled without throwing, in order. */
  results<C, M extends MethodOf<C>>(consumer: Type<C>, method: M): ResultOf<C, M>[] {
    return this.windows(consumer, method).map(({ result }) => result);
  }

  /**
   * What pipelines have appended to the stream, in order. A batch counts once, however often it was handled, and what is in the stream by now
   * does not matter.
   *
   * @example
   * ```ts
   * await harness.append(Flights, { origin: 'SAT', delay: 25 });
   * await harness.advance('1s');
   * expect(harness.outputs(Delays)).toEqual([{ origin: 'SAT', delay: 25, airport: 'San Antonio' }]);
   * ```
   */
  outputs<T>(stream: string | StreamRef<T>): readonly Stored<T>[] {
    // What the messages are, only the definition of the stream can know.
    return this.engine.outputs(streamName('MinibatchHarness.outputs', stream)) as readonly Stored<T>[];
  }

  /** The windows that the method handled without throwing, with its results. */
  windows<C, M extends MethodOf<C>>(consumer: Type<C>, method: M): readonly RecordedWindow<ResultOf<C, M>>[] {
    const label = `${consumer.name}.${method}`;
    const windows = this.engine.windows(label);
    if (windows) return windows as readonly RecordedWindow<ResultOf<C, M>>[];
    throw new MinibatchError(
      ErrorCode.UnresolvedProvider,
      `MinibatchHarness: there is no consumer ${label}; consumers are: ${this.engine.labels.join(', ') || 'none'}. ` +
        'Is the class among the providers, its method decorated with @Streaming or @Pipeline, and the module initialised?',
    );
  }

  /** Resolves when the method has handled this many windows; for applications that run by the system's clock. @default 1 */
  async waitForWindow<C, M extends MethodOf<C>>(consumer: Type<C>, method: M, count = 1): Promise<void> {
    while (this.windows(consumer, method).length < count) await this.engine.nextRun();
  }

  /** The messages that the method has rejected, by `window.reject` or `RejectMessages`, each once. An attempt rejects nothing if it fails, or if a sink
   * refuses its result with `onRefused: 'deadLetter'`. */
  rejected<C, M extends MethodOf<C>>(consumer: Type<C>, method: M): readonly RecordedRejection[] {
    this.windows(consumer, method);
    return this.engine.rejected(`${consumer.name}.${method}`) ?? [];
  }

  /** The dead letters of a stream, or those that the filter picks. */
  async deadLetters(stream: string | StreamRef, filter?: DeadLetterFilter): Promise<readonly DeadLetter[]> {
    await this.settled();
    const letters: DeadLetter[] = [];
    for await (const letter of this.hub.stream(stream).deadLetters(filter)) letters.push(letter);
    return letters;
  }

  /**
   * Lets a sink fail: its next `put`s throw and do not reach it, until `restore()`. The class, or the token that was given as `sink`.
   *
   * @param error what `put` throws, e.g. `new ResultRefused(…)`. @default an error
   * @param times how often. @default until `restore()`
   * @example
   * ```ts
   * const outage = harness.failSink(ReportCollection, new Error('no connection'));
   * await harness.append('flights', { delay: 25 });
   * await harness.advance('2s');
   * outage.restore();
   * await harness.advance('1 minute');
   * ```
   */
  failSink(
    sink: (abstract new (...args: never[]) => Sink) | string | symbol,
    error: unknown = new Error('the sink fails (MinibatchHarness.failSink)'),
    times = Number.POSITIVE_INFINITY,
  ): FailingSink {
    return this.engine.faults.fail(typeof sink === 'function' ? sink.name : String(sink), error, times);
  }

  /**
   * Ends the consumers as `kill -9` would, whatever they are doing, and starts them again: windows in flight are redelivered, with the same id.
   * The clock moves until their leases have expired and are held anew. Providers stay as they are, and appends continue.
   * Consumers that `stream.consume` has started end with the restart: start them again, as the application would.
   *
   * @throws without a virtual clock
   */
  async restart(): Promise<void> {
    const clock = this.virtualClock('restart', 'close the application, and start another one on the same store');
    const restarted = this.restartBy(clock);
    this.restarts.add(restarted);
    try {
      await restarted;
    } finally {
      this.restarts.delete(restarted);
    }
  }

  private async restartBy(clock: VirtualClock): Promise<void> {
    this.registry.releaseAll();
    await this.engine.restart();
    // The new engine takes over when it has seen no renewal for a lease time.
    const latest = clock.monotonic() + 4 * this.leaseTime;
    while (clock.monotonic() < latest && this.status().some(({ state }) => state === ConsumerState.Standby)) {
      await clock.advance(this.leaseTime / 4, () => this.engine.settled());
    }
    await this.engine.settled();
  }

  private virtualClock(method: string, otherwise: string): VirtualClock {
    if (this.clock instanceof VirtualClock) return this.clock;
    throw new MinibatchError(
      ErrorCode.InvalidOptions,
      `MinibatchHarness.${method}: the application runs by the system's clock; leave out \`clock\`, or ${otherwise}`,
    );
  }

  /** What the consumers of the application are doing. */
  status(): readonly ConsumerStatus[] {
    return this.engine.status();
  }
}
