import { Inject, Injectable, Logger } from '@nestjs/common';
import { bindConsumer } from './consumers/consumer.binder.js';
import { bindingLine } from './consumers/binding-line.js';
import { ConsumerExplorer } from './consumers/consumer.explorer.js';
import { ConsumerRegistry } from './consumers/consumer.registry.js';
import { RunTimeConsumers } from './consumers/run-time-consumers.js';
import { resolveStreaming } from './consumers/streaming.resolve.js';
import type { DrainResult, Engine } from './emitter/emitter.interface.js';
import type { Executor } from './executors/executor.interface.js';
import { ErrorCode, MinibatchError } from './errors/minibatch.error.js';
import { invalidOption } from './internal/checks.js';
import { ENGINE, EXECUTOR, RESOLVED_OPTIONS, STREAM_HUB } from './internal/tokens.js';
import type { ResolvedOptions } from './minibatch.options.js';
import { type FoundSource, SourceExplorer } from './sources/source.explorer.js';
import type { StreamHub } from './streams/stream-hub.js';

/**
 * Starts what the decorators bound. With `autoStart` (the default) the application does that at bootstrap; without, call
 * `start()` when you want consumers and sources to run in this process.
 */
@Injectable()
export class MinibatchRunner {
  private readonly logger = new Logger('Minibatch');
  private sources: readonly FoundSource[] = [];
  private consumers = 0;
  private starting: Promise<void> | undefined;
  private closed = false;

  constructor(
    @Inject(ENGINE) private readonly engine: Engine,
    @Inject(EXECUTOR) private readonly executor: Executor,
    @Inject(STREAM_HUB) private readonly hub: StreamHub,
    @Inject(RESOLVED_OPTIONS) private readonly options: ResolvedOptions,
    @Inject(ConsumerExplorer) private readonly consumerExplorer: ConsumerExplorer,
    @Inject(SourceExplorer) private readonly sourceExplorer: SourceExplorer,
    @Inject(ConsumerRegistry) private readonly registry: ConsumerRegistry,
    @Inject(RunTimeConsumers) private readonly atRunTime: RunTimeConsumers,
  ) {}

  /** Are there consumers or sources to run in this process? */
  get hasWork(): boolean {
    return this.consumers > 0 || this.sources.length > 0;
  }

  /**
   * Finds, validates and binds all consumers and sources. @throws MinibatchError for the first that is wrong
   * @internal
   */
  async collect(): Promise<void> {
    this.sources = this.sourceExplorer.explore();
    for (const found of this.consumerExplorer.explore()) {
      this.registry.add({ ...found, resolved: resolveStreaming(found.label, found.options, this.options.retry) });
    }
    for (const { stream, settings } of [...this.registry.all(), ...this.sources]) this.hub.define(stream, settings);
    const selected = new Set(this.registry.selected(this.options.consumers));
    for (const consumer of this.registry.all()) {
      if (!selected.has(consumer)) {
        this.logger.log(`'${consumer.stream}' → ${consumer.label}: does not run in this process`);
        continue;
      }
      const definition = await bindConsumer(consumer, this.executor);
      this.engine.add(definition);
      this.consumers += 1;
      this.logger.log(bindingLine(definition));
    }
    this.selectSources();
  }

  /**
   * Leaves those that run in this process. @throws MinibatchError `InvalidOptions` if two have one name, or if the filter names none
   * that there is: a process that reads nothing would be noticed late
   */
  private selectSources(): void {
    const namesOf = ({ label, stream, options }: FoundSource) => [label, options.name ?? label, stream];
    const seen = new Set<string>();
    for (const { stream, label, options } of this.sources) {
      const id = `${stream}\0${options.name ?? label}`;
      if (!seen.has(id)) seen.add(id);
      else {
        const allowed = 'one that no other source of the stream has; a position is kept under it';
        throw invalidOption(`@StreamSource on ${label} (stream '${stream}')`, 'name', options.name ?? label, allowed);
      }
    }
    const filter = this.options.sources;
    for (const name of filter ?? []) {
      if (this.sources.some((source) => namesOf(source).includes(name))) continue;
      const labels = this.sources.map(({ label }) => label).join(', ') || 'none, there are no sources';
      const allowed = `class, name or stream of one of: ${labels}`;
      throw invalidOption('MinibatchModule', 'sources (or MINIBATCH_SOURCES)', name, allowed);
    }
    const found = this.sources;
    this.sources = found.filter((source) => !filter || namesOf(source).some((name) => filter.includes(name)));
    for (const source of found) {
      const { label, stream } = source;
      const runs = this.sources.includes(source);
      this.logger.log(`${label} → '${stream}'${runs ? '' : ': does not run in this process'}`);
    }
  }

  /**
   * Starts the consumers, then the sources; once, however often it is called.
   *
   * @throws MinibatchError `ShuttingDown` if the application was closed before
   */
  async start(): Promise<void> {
    if (this.closed && !this.starting) {
      throw new MinibatchError(ErrorCode.ShuttingDown, 'MinibatchRunner.start(): the application was closed');
    }
    this.starting ??= this.startAll();
    await this.starting;
  }

  private async startAll(): Promise<void> {
    await this.engine.start();
    if (this.closed) return;
    for (const { stream, source, options, label } of this.sources) {
      this.hub.attach(stream, source, { name: label, ...options });
    }
  }

  /** The first step of the end; nothing is started any more. @internal */
  async stopSources(): Promise<void> {
    this.closed = true;
    await this.hub.stopSources();
  }

  /** Undefined if nothing was started. @internal */
  async drain(hurry?: AbortSignal): Promise<DrainResult | undefined> {
    this.closed = true;
    if (!this.starting && !this.atRunTime.used) return undefined;
    const result = await this.engine.stop(this.options.shutdownTimeout, hurry);
    await this.starting?.catch(() => undefined);
    return result;
  }
}
