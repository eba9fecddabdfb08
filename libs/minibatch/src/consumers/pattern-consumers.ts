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
  /** Each of its partitions reports the end. */
  isEnding?: boolean;
}

/**
 * Runs the consumers that name their streams by a pattern: one for each stream that matches, from the first look that finds the stream until
 * it is dropped. One command a look, whatever the number of streams.
 */
export class PatternConsumers {
  private readonly patterns: PatternConsumer[] = [];
  /** By pattern, then stream. */
  private readonly running = new Map<PatternConsumer, Map<string, Running>>();
  /** What a look has reported, so that the next one does not repeat it. */
  private readonly reported = new Set<string>();
  private readonly stopping = new AbortController();
  private isStarted = false;
  private isFailing = false;

  constructor(private readonly parts: PatternParts) {}

  add(consumer: PatternConsumer): void {
    this.patterns.push(consumer);
    this.running.set(consumer, new Map());
    if (this.isStarted && this.patterns.length === 1) void this.run();
  }

  /** Resolves when the streams that there are have their consumers. A store that does not answer is asked again later. */
  async start(): Promise<void> {
    if (this.isStarted) return;
    this.isStarted = true;
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
      for (const consumer of this.patterns) {
        for (const name of names) if (consumer.pattern.test(name)) await this.begin(consumer, name);
      }
    } catch (error) {
      if (!this.isFailing) log.warn(`Can't look for streams that match a pattern, retrying: ${messageOf(error)}`);
      this.isFailing = true;
    }
  }

  private async begin(consumer: PatternConsumer, stream: string): Promise<void> {
    const { engine, log, reserve, bind } = this.parts;
    const streams = this.running.get(consumer);
    if (!streams || streams.has(stream) || this.stopping.signal.aborted) return;
    const { label, resolved } = consumer;
    let release: (() => void) | undefined;
    try {
      release = reserve(stream, resolved.group, label);
      const definition = await bind(consumer, stream);
      if (this.stopping.signal.aborted) return release();
      const running: Running = { key: definition.key, label, release };
      engine.add({ ...definition, dropped: () => this.end(consumer, running) });
      streams.set(stream, running);
      log.log(bindingLine(definition));
    } catch (error) {
      release?.();
      const id = `${stream}\0${label}\0${resolved.group}`;
      if (!this.reported.has(id)) log.warn(`'${stream}' matches ${consumer.stream}: ${messageOf(error)}`);
      this.reported.add(id);
    }
  }

  private endAllBut(present: ReadonlySet<string>): void {
    for (const [consumer, streams] of this.running) {
      for (const [stream, running] of streams) if (!present.has(stream)) this.end(consumer, running);
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
