import { Inject, Injectable } from '@nestjs/common';
import { minibatchLog } from './definitions/minibatch-log.js';
import { bindConsumer, bindServed } from './consumers/consumer.binder.js';
import { consumes, feeds, pipes } from './definitions/decorated-classes.js';
import type { ExecutorRegistry } from './consumers/executor.registry.js';
import { bindingLine } from './consumers/binding-line.js';
import { ConsumerExplorer, type FoundConsumer } from './consumers/consumer.explorer.js';
import { ConsumerRegistry, type RegisteredConsumer } from './consumers/consumer.registry.js';
import { WindowWorker } from './consumers/window-worker.js';
import { type PatternConsumer, PatternConsumers } from './consumers/pattern-consumers.js';
import { RunTimeConsumers } from './consumers/run-time-consumers.js';
import { type ResolvedStreaming, resolveStreaming } from './consumers/streaming.resolve.js';
import type { ConsumerDefinition, DrainResult, Engine } from './engine/engine.interface.js';
import { ErrorCode, messageOf, MinibatchError } from './errors/minibatch.error.js';
import { invalidOption } from './common/checks.js';
import { executorName } from './executors/executor-ref.js';
import { WORKER } from './executors/worker-mark.js';
import { ENGINE, EXECUTORS, RESOLVED_OPTIONS, STREAM_HUB, STREAM_STORE } from './common/tokens.js';
import type { ResolvedOptions } from './minibatch.options.js';
import { keyedWindows } from './pipelines/keyed.binder.js';
import { bindPipeline, type BoundPipeline } from './pipelines/pipeline.binder.js';
import { isPipeline, type PipelineConsumer, PipelineExplorer } from './pipelines/pipeline.explorer.js';
import { targetStreams } from './pipelines/pipeline.plan.js';
import { type FoundSource, SourceExplorer } from './sources/source.explorer.js';
import type { StreamStore } from './storage/stream-store.interface.js';
import type { StreamHub } from './streams/stream-hub.js';

/** How long executors may take to end their workers, once all is drained; milliseconds. */
const CLOSE_TIMEOUT = 1000;

/** Newly found. */
interface Found {
  readonly consumers: readonly RegisteredConsumer[];
  readonly sources: readonly FoundSource[];
}

/**
 * Starts what the decorators bound. With `autoStart` (the default) the application does that at bootstrap; without, call
 * `start()` when you want consumers and sources to run in this process.
 */
@Injectable()
export class MinibatchRunner {
  private readonly logger = minibatchLog();
  /** All that were found, whether they run in this process or not. */
  private readonly found: FoundSource[] = [];
  /** Of those the ones that run here and were not started yet. */
  private readonly waiting: FoundSource[] = [];
  private readonly former: BoundPipeline[] = [];
  private sources = 0;
  /** From now on sources are started when they are found. */
  private attaching = false;
  private consumers = 0;
  private starting: Promise<void> | undefined;
  private closed = false;

  constructor(
    @Inject(ENGINE) private readonly engine: Engine,
    @Inject(EXECUTORS) private readonly executors: ExecutorRegistry,
    @Inject(STREAM_HUB) private readonly hub: StreamHub,
    @Inject(RESOLVED_OPTIONS) private readonly options: ResolvedOptions,
    @Inject(ConsumerExplorer) private readonly consumerExplorer: ConsumerExplorer,
    @Inject(SourceExplorer) private readonly sourceExplorer: SourceExplorer,
    @Inject(PipelineExplorer) private readonly pipelineExplorer: PipelineExplorer,
    @Inject(ConsumerRegistry) private readonly registry: ConsumerRegistry,
    @Inject(RunTimeConsumers) private readonly atRunTime: RunTimeConsumers,
    @Inject(PatternConsumers) private readonly patterns: PatternConsumers,
    @Inject(STREAM_STORE) private readonly store: StreamStore,
    @Inject(WindowWorker) private readonly worker: WindowWorker,
  ) {}

  /** Are there consumers or sources to run in this process, or methods to run for others? */
  get hasWork(): boolean {
    return this.consumers > 0 || this.sources > 0;
  }

  /** What the decorators bind, in this process or another, as it stands in log lines. @internal */
  get bindings(): readonly string[] {
    return [...this.registry.all().map(bindingOf), ...this.found.map(({ label, stream }) => feeds(label, stream))];
  }

  /**
   * Finds, validates and binds all consumers and sources. @throws MinibatchError for the first that is wrong
   * @internal
   */
  async collect(): Promise<void> {
    const { consumers, sources } = this.options;
    const found = this.explore();
    // A filter that names nothing there is would be noticed late: by a worker that does nothing.
    this.registry.selected(consumers);
    for (const name of sources ?? []) {
      if (found.sources.some((source) => namesOf(source).includes(name))) continue;
      const labels = found.sources.map(({ label }) => label).join(', ') || 'none, there are no sources';
      const allowed = `class, name or stream of one of: ${labels}`;
      throw invalidOption('MinibatchModule', 'sources (or MINIBATCH_SOURCES)', name, allowed);
    }
    await this.bind(found);
  }

  /**
   * The same for modules that were loaded since, and starts what is in them if the others were started.
   * @internal
   */
  async collectLate(): Promise<void> {
    if (this.closed) return;
    await this.bind(this.explore());
    if (this.starting) await (this.isWorker ? this.serve() : this.executors.open());
    if (this.attaching) this.attach();
  }

  /** What was not found before, with its options checked. */
  private explore(): Found {
    const sources = this.sourceExplorer
      .explore()
      .filter(({ source, stream }) => !this.found.some((each) => each.source === source && each.stream === stream));
    const decorated = this.consumerExplorer
      .explore()
      .filter((consumer) => !this.registry.has(consumer))
      .map((consumer) => this.registry.add({ ...consumer, resolved: this.resolve(consumer) }));
    const pipelines = this.pipelineExplorer.explore(this.options.retry).map((consumer) => this.registry.add(consumer));
    const named = decorated.filter(({ pattern }) => !pattern);
    const targets = pipelines.flatMap(({ plan }) => targetStreams(plan));
    const read = pipelines.filter(({ plan }) => !plan.isFormer);
    for (const { stream, settings } of [...named, ...read, ...targets, ...sources]) this.hub.define(stream, settings);
    return { consumers: [...decorated, ...pipelines], sources };
  }

  private resolve({ label, options }: FoundConsumer): ResolvedStreaming {
    return resolveStreaming(label, options, this.options.retry);
  }

  private async bind({ consumers, sources }: Found): Promise<void> {
    const definitions: ConsumerDefinition[] = [];
    for (const consumer of consumers) {
      if (!this.registry.isSelected(consumer, this.options.consumers)) {
        this.logger.log(`'${consumer.stream}' → ${consumer.label}: does not run in this process`);
        continue;
      }
      if (isByPattern(consumer)) {
        await this.bindPattern(consumer);
        continue;
      }
      if (isPipeline(consumer)) {
        const definition = await this.bindPipeline(consumer);
        if (definition) definitions.push(definition);
        continue;
      }
      if (this.isWorker) {
        await this.bindServed(consumer);
        continue;
      }
      const definition = await bindConsumer(consumer, this.executors, keyedWindows(this.store));
      this.consumerExplorer.checkSinks(consumer.label, definition.sinks);
      definitions.push(definition);
      this.consumers += 1;
      this.logger.log(bindingLine(definition));
    }
    await this.addAll(definitions);
    if (!this.isWorker) this.selectSources(sources);
  }

  /** In one turn, with those that match their streams by a pattern: an engine that runs registers all groups of a stream before one begins. */
  private async addAll(definitions: readonly ConsumerDefinition[]): Promise<void> {
    const matching: (() => void)[] = [];
    for (const { key } of definitions) matching.push(await this.patterns.name(key.stream));
    for (const add of matching) add();
    for (const definition of definitions) this.engine.add(definition);
  }

  /** Bound once here, so that what is wrong with it stops the boot; again for each stream that matches. */
  private async bindPattern(consumer: PatternConsumer): Promise<void> {
    if (this.isWorker) return;
    const definition = await bindConsumer(consumer, this.executors, keyedWindows(this.store));
    if (definition.executor) {
      const allowed = "'inline' together with a pattern: an executor is told of its consumers before they begin";
      throw invalidOption(consumer.label, 'executor', definition.executor.executor.name, allowed);
    }
    this.consumerExplorer.checkSinks(consumer.label, definition.sinks);
    this.patterns.add(consumer);
    this.consumers += 1;
    this.logger.log(`every stream that matches ${bindingLine(definition)}`);
  }

  /** Undefined in a worker: what a pipeline makes is committed by the process that holds the lease, so it runs there. */
  private async bindPipeline(consumer: PipelineConsumer): Promise<ConsumerDefinition | undefined> {
    if (this.isWorker) {
      const why = 'a pipeline runs in the process that holds its lease, and the role of this one is worker';
      this.logger.log(`'${consumer.stream}' → ${consumer.label}: does not run in this process: ${why}`);
      return undefined;
    }
    const { definition, line } = await bindPipeline(consumer, {
      store: this.store,
      prepare: (messages, closing) => this.hub.prepare(messages, closing, consumer.stream),
      checkSinks: (label, sinks) => this.consumerExplorer.checkSinks(label, sinks),
    });
    if (consumer.plan.isFormer) {
      this.former.push({ definition, line });
      return undefined;
    }
    this.consumers += 1;
    this.logger.log(line);
    return definition;
  }

  /** What pipelines have left in their own streams under earlier names, where there is such a stream: it is not to be made. */
  private async startFormer(): Promise<void> {
    for (const { definition, line } of this.former.splice(0)) {
      const { stream } = definition.key;
      try {
        if (this.closed || !(await this.store.describeStream(stream))) continue;
      } catch (error) {
        this.logger.warn(
          `'${stream}' is not read before the next start, for it can't be told whether it is there: ${messageOf(error)}`,
        );
        continue;
      }
      this.logger.log(line);
      await this.addAll([definition]);
    }
  }

  private async bindServed(consumer: RegisteredConsumer): Promise<void> {
    const executor = await bindServed(consumer, this.executors);
    if (executor) this.consumers += 1;
    const by = executor ? `, executor ${executorName(executor)}` : '';
    this.logger.log(`'${consumer.stream}' → ${consumer.label}: runs windows of other processes${by}`);
  }

  private get isWorker(): boolean {
    return this.options.role === 'worker';
  }

  /** Adds those that run in this process. @throws MinibatchError `InvalidOptions` if two have one name */
  private selectSources(found: readonly FoundSource[]): void {
    const filter = this.options.sources;
    for (const source of found) {
      const { stream, label, options } = source;
      const name = options.name ?? label;
      if (this.found.some((other) => other.stream === stream && (other.options.name ?? other.label) === name)) {
        const allowed = 'a name that no other source of the stream has: its position is stored under it';
        throw invalidOption(`@StreamSource on ${label} (stream '${stream}')`, 'name', name, allowed);
      }
      this.found.push(source);
      const runs = !filter || namesOf(source).some((each) => filter.includes(each));
      if (runs) {
        this.sources += 1;
        this.waiting.push(source);
      }
      this.logger.log(`${label} → '${stream}'${runs ? '' : ': does not run in this process'}`);
    }
  }

  /**
   * Starts the consumers, then the sources; once, however often it is called.
   *
   * In the role of a worker it starts what brings the windows of other processes.
   *
   * @throws MinibatchError `ShuttingDown` if the application was closed before
   */
  async start(): Promise<void> {
    if (this.closed && !this.starting) {
      throw new MinibatchError(ErrorCode.ShuttingDown, 'MinibatchRunner.start(): the application was closed');
    }
    this.starting ??= this.isWorker ? this.serve() : this.startAll();
    await this.starting;
  }

  private async startAll(): Promise<void> {
    await this.executors.open();
    if (this.closed) return;
    await this.patterns.start();
    await this.engine.start();
    await this.startFormer();
    if (this.closed) return;
    await this.patterns.watch();
    if (this.closed) return;
    this.attaching = true;
    this.attach();
  }

  private async serve(): Promise<void> {
    // A thread is given its windows by the process that it belongs to.
    if (Reflect.has(globalThis, WORKER)) return;
    await this.executors.serve({
      handle: (task, options) => this.worker.handle(task, options),
      load: async (key, ids) => {
        await this.hub.open();
        return this.store.load(key, ids);
      },
    });
  }

  private attach(): void {
    for (const { stream, source, options, label } of this.waiting.splice(0)) {
      this.hub.attach(stream, source, { name: label, ...options });
    }
  }

  /** The first step of the end; nothing is started any more. @internal */
  async stopSources(): Promise<void> {
    this.closed = true;
    this.patterns.stop();
    await this.hub.stopSources();
  }

  /** Undefined if nothing was started. @internal */
  async drain(hurry?: AbortSignal): Promise<DrainResult | undefined> {
    this.closed = true;
    if (this.isWorker) {
      await this.starting?.catch(() => undefined);
      await this.executors.close(this.options.shutdownTimeout);
      return undefined;
    }
    if (!this.starting && !this.atRunTime.used) return undefined;
    const result = await this.engine.stop(this.options.shutdownTimeout, hurry);
    await this.starting?.catch(() => undefined);
    // What ran has ended or was given up: there is nothing to wait for.
    await this.executors.close(CLOSE_TIMEOUT);
    return result;
  }
}

function namesOf({ label, stream, options }: FoundSource): readonly string[] {
  return [label, options.name ?? label, stream];
}

function bindingOf(consumer: RegisteredConsumer): string {
  const { label, stream, resolved } = consumer;
  return isPipeline(consumer) ? pipes(label, resolved.group) : consumes(label, stream);
}

function isByPattern(consumer: RegisteredConsumer): consumer is PatternConsumer {
  return consumer.pattern !== undefined;
}
