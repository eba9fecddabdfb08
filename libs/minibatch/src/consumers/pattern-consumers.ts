import { setImmediate } from 'node:timers/promises';
import type { Clock } from '../common/clock.js';
import { delay } from '../common/clock.js';
import type { Log } from '../common/log.js';
import type { ConsumerDefinition, Engine } from '../engine/engine.interface.js';
import { messageOf } from '../errors/minibatch.error.js';
import type { ConsumerKey, StreamStore } from '../storage/stream-store.interface.js';
import { bindingLine } from './binding-line.js';
import type { RegisteredConsumer } from './consumer.registry.js';

/** A consumer of all streams whose names match. */
export type PatternConsumer = RegisteredConsumer & { readonly pattern: RegExp };

export interface PatternParts {
  readonly engine: Pick<Engine, 'add' | 'remove'>;
  readonly store: Pick<StreamStore, 'listStreams'>;
  readonly clock: Clock;
  readonly log: Log;
  /** Milliseconds between two looks at the streams that there are. */
  readonly every: number;
  readonly shutdownTimeout: number;
  /** Takes the group of the stream, until the answer is called. @throws MinibatchError `DuplicateGroup` if a consumer has it */
  readonly reserve: (stream: string, group: string, label: string) => () => void;
  /** What the engine runs for one of the streams. */
  readonly bind: (consumer: PatternConsumer, stream: string) => Promise<ConsumerDefinition>;
}

interface Running {
  readonly key: ConsumerKey;
  readonly label: string;
  readonly release: () => void;
  /** Undefined if it can't be made, which was reported. */
  readonly definition: Promise<ConsumerDefinition | undefined>;
  /** The engine runs it. */
  isAdded?: boolean;
  /** Each of its partitions reports the end. */
  isEnding?: boolean;
}

/** A long list of streams is taken up in parts of so many, so that timers and signals come in between. */
const AT_ONCE = 50;
const NOTHING = (): void => undefined;

/**
 * Runs the consumers that name their streams by a pattern: one for each stream that matches, from the first look that finds the stream until
 * it is dropped. One command a look, whatever the number of streams.
 *
 * All that match a stream are added to the engine at once, and together with a consumer that names the stream: their groups are registered
 * before any of them begins, so that none misses what another one has committed.
 */
export class PatternConsumers {
  private readonly patterns: PatternConsumer[] = [];
  /** By pattern, then stream. */
  private readonly running = new Map<PatternConsumer, Map<string, Running>>();
  /** Streams that consumers of this process name, and how many do. They are made again when they were dropped. */
  private readonly named = new Map<string, number>();
  /** What a look has reported, so that the next one does not repeat it. */
  private readonly reported = new Set<string>();
  private readonly stopping = new AbortController();
  private isStarted = false;
  private isLooking = false;
  private isFailing = false;

  constructor(private readonly parts: PatternParts) {}

  add(consumer: PatternConsumer): void {
    this.patterns.push(consumer);
    this.running.set(consumer, new Map());
    if (this.isLooking && this.patterns.length === 1) void this.run();
  }

  /**
   * A consumer that names the stream is about to be added to the engine. Those that match come along: call the answer right before, in the
   * same turn.
   */
  async name(stream: string): Promise<() => void> {
    this.named.set(stream, (this.named.get(stream) ?? 0) + 1);
    return this.isStarted ? this.prepare(stream) : NOTHING;
  }

  /** A consumer that named the stream has ended. */
  unname(stream: string): void {
    const rest = (this.named.get(stream) ?? 0) - 1;
    if (rest > 0) this.named.set(stream, rest);
    else this.named.delete(stream);
  }

  /** Before the engine is started: adds those that match a stream that a consumer of this process names. */
  async start(): Promise<void> {
    if (this.isStarted) return;
    this.isStarted = true;
    for (const stream of this.named.keys()) (await this.prepare(stream))();
  }

  /** Resolves when the streams that there are have their consumers. A store that does not answer is asked again later. */
  async watch(): Promise<void> {
    if (this.isLooking) return;
    this.isLooking = true;
    if (this.patterns.length === 0) return;
    await this.look();
    void this.run();
  }

  stop(): void {
    this.stopping.abort();
  }

  private async run(): Promise<void> {
    const { clock, every } = this.parts;
    const { signal } = this.stopping;
    while (!signal.aborted) {
      await delay(clock, every, signal);
      if (!signal.aborted) await this.look();
    }
  }

  private async look(): Promise<void> {
    const { log, store } = this.parts;
    try {
      const names = (await store.listStreams()).map(({ name }) => name);
      this.isFailing = false;
      if (this.stopping.signal.aborted) return;
      this.endAllBut(new Set(names));
      await this.takeUp(names);
    } catch (error) {
      if (!this.isFailing) log.warn(`Can't look for streams that match a pattern, retrying: ${messageOf(error)}`);
      this.isFailing = true;
    }
  }

  private async takeUp(names: readonly string[]): Promise<void> {
    const fresh = names.filter((name) => this.matching(name).some((each) => !this.running.get(each)?.has(name)));
    for (const [index, name] of fresh.entries()) {
      if (this.stopping.signal.aborted) return;
      (await this.prepare(name))();
      if (index % AT_ONCE === AT_ONCE - 1) await setImmediate();
    }
  }

  private matching(stream: string): readonly PatternConsumer[] {
    return this.patterns.filter(({ pattern }) => pattern.test(stream));
  }

  /** Makes those that match and do not run yet; the answer adds them to the engine, all at once. */
  private async prepare(stream: string): Promise<() => void> {
    const begins: (() => void)[] = [];
    for (const consumer of this.matching(stream)) {
      const running = this.running.get(consumer)?.get(stream) ?? this.reserve(consumer, stream);
      if (!running || running.isAdded) continue;
      const definition = await running.definition;
      if (definition) begins.push(() => this.begin(consumer, running, definition));
    }
    return () => {
      for (const begin of begins) begin();
    };
  }

  /** Undefined if another consumer has the group. */
  private reserve(consumer: PatternConsumer, stream: string): Running | undefined {
    const { label, resolved } = consumer;
    const { group } = resolved;
    if (this.stopping.signal.aborted) return undefined;
    try {
      const release = this.parts.reserve(stream, group, label);
      const definition = this.bind(consumer, stream);
      const running: Running = { key: { stream, group, partition: 0 }, label, release, definition };
      this.running.get(consumer)?.set(stream, running);
      return running;
    } catch (error) {
      this.failed(consumer, stream, error);
      return undefined;
    }
  }

  private async bind(consumer: PatternConsumer, stream: string): Promise<ConsumerDefinition | undefined> {
    try {
      return await this.parts.bind(consumer, stream);
    } catch (error) {
      this.failed(consumer, stream, error);
      return undefined;
    }
  }

  private begin(consumer: PatternConsumer, running: Running, definition: ConsumerDefinition): void {
    const { engine, log } = this.parts;
    const { stream } = running.key;
    if (running.isAdded || running.isEnding || this.stopping.signal.aborted) return;
    try {
      const goesWithStream = !this.named.has(stream);
      engine.add({ ...definition, ...(goesWithStream && { dropped: () => this.end(consumer, running) }) });
      running.isAdded = true;
      log.log(bindingLine(definition));
    } catch (error) {
      this.failed(consumer, stream, error);
    }
  }

  /** The next look tries again. */
  private failed(consumer: PatternConsumer, stream: string, error: unknown): void {
    const { label, resolved } = consumer;
    const streams = this.running.get(consumer);
    streams?.get(stream)?.release();
    streams?.delete(stream);
    const id = `${stream}\0${label}\0${resolved.group}`;
    if (!this.reported.has(id)) this.parts.log.warn(`'${stream}' matches ${consumer.stream}: ${messageOf(error)}`);
    this.reported.add(id);
  }

  private endAllBut(present: ReadonlySet<string>): void {
    for (const [consumer, streams] of this.running) {
      for (const [stream, running] of streams) {
        if (!present.has(stream) && !this.named.has(stream)) this.end(consumer, running);
      }
    }
  }

  /** The stream is gone. If it comes back, the next look finds it. */
  private end(consumer: PatternConsumer, running: Running): void {
    const { engine, log, shutdownTimeout } = this.parts;
    const { key, label, release } = running;
    const streams = this.running.get(consumer);
    if (this.stopping.signal.aborted || streams?.get(key.stream) !== running || running.isEnding) return;
    running.isEnding = true;
    log.log(`${label}: stream '${key.stream}' was dropped; it is no longer consumed`);
    void engine.remove(key, shutdownTimeout).finally(() => {
      release();
      streams.delete(key.stream);
    });
  }
}
