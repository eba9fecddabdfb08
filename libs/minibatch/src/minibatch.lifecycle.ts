import {
  type BeforeApplicationShutdown,
  Inject,
  Injectable,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
  type OnModuleDestroy,
  type OnModuleInit,
} from '@nestjs/common';
import { LazyModuleLoader, ModulesContainer } from '@nestjs/core';
import { minibatchLog } from './definitions/minibatch-log.js';
import { ConsumerRegistry } from './consumers/consumer.registry.js';
import { ErrorCode, MinibatchError, messageOf } from './errors/minibatch.error.js';
import type { Binding } from './definitions/decorated-classes.js';
import { type Clock, delay } from './common/clock.js';
import { CLOCK, RESOLVED_OPTIONS, STREAM_HUB, STREAM_STORE } from './common/tokens.js';
import type { ResolvedOptions } from './minibatch.options.js';
import { afterLazyLoads } from './minibatch.lazy-modules.js';
import { Impatience } from './minibatch.impatience.js';
import { MinibatchRunner } from './minibatch.runner.js';
import { unprovidedClasses } from './minibatch.unprovided.js';
import { unservedAdvice, unservedGroups } from './status/unserved-groups.js';
import { mismatchOf } from './storage/partitions.js';
import type { ConsumerKey, StreamInfo, StreamStore } from './storage/stream-store.interface.js';
import { closeStore } from './streams/store-closing.js';
import type { StreamHub } from './streams/stream-hub.js';
import { counted } from './common/counted.js';

/** Milliseconds after the start: what `main.ts` does, and other applications of the process, has happened by then. */
const LATER = 1000;
/** How long the boot waits for a store that does not answer; then it continues without it. Milliseconds. */
const OPEN_WAIT = 5000;
/** The least time that appends in flight get at the end of a shutdown; milliseconds. */
const LAST_ANSWERS = 500;
/** How long all of it may take after `shutdownTimeout`; milliseconds. */
const AFTERWARDS = 3_000;

/**
 * The one place with Nest's hooks.
 *
 * ```text
 * onModuleInit               validate and bind everything, open the store
 * onApplicationBootstrap     start consumers, then sources
 * onModuleDestroy            stop sources
 * beforeApplicationShutdown  drain: running handlers finish, the rest is given back
 *                            (here Nest closes HTTP; requests that still run may append until then)
 * onApplicationShutdown      answer the last appends, close the store
 * ```
 *
 * The drain can't wait for `onApplicationShutdown`: Mongoose closes its connection there.
 *
 * An application may be closed while it is still being initialised, and Nest then runs both sequences side by side. Closed is
 * closed: what has not begun by then does not begin, and what the initialisation was waiting for is given back.
 */
@Injectable()
export class MinibatchLifecycle
  implements OnModuleInit, OnApplicationBootstrap, OnModuleDestroy, BeforeApplicationShutdown, OnApplicationShutdown
{
  private readonly logger = minibatchLog();
  private shutdownBegan = 0;
  private forgetLater = (): void => undefined;
  private readonly closed = new AbortController();
  private readonly impatience: Impatience;

  constructor(
    @Inject(MinibatchRunner) private readonly runner: MinibatchRunner,
    @Inject(ConsumerRegistry) private readonly registry: ConsumerRegistry,
    @Inject(STREAM_HUB) private readonly hub: StreamHub,
    @Inject(STREAM_STORE) private readonly store: StreamStore,
    @Inject(RESOLVED_OPTIONS) private readonly options: ResolvedOptions,
    @Inject(CLOCK) private readonly clock: Clock,
    @Inject(ModulesContainer) private readonly modules: ModulesContainer,
    @Inject(LazyModuleLoader) private readonly loader: LazyModuleLoader,
  ) {
    this.impatience = new Impatience(clock, this.logger);
  }

  async onModuleInit(): Promise<void> {
    if (this.closed.signal.aborted) return;
    this.refuseSecondModule();
    await this.runner.collect();
    afterLazyLoads(this.loader, () => this.runner.collectLate());
    if (this.closed.signal.aborted || this.isWorker) return;
    await this.openStore();
  }

  async onApplicationBootstrap(): Promise<void> {
    if (this.closed.signal.aborted) return;
    if (this.options.autoStart) {
      await this.runner.start();
      if (this.closed.signal.aborted || (this.isWorker && !this.runner.hasWork)) return;
      this.forgetLater = this.clock.schedule(LATER, () => this.checkSetUp());
    } else if (this.runner.hasWork) {
      this.logger.log('autoStart is false: nothing runs until MinibatchRunner.start() is called');
    }
    if (!this.isWorker) await this.warnOfOrphans();
  }

  /** It runs methods for other processes, and nothing of its own. */
  private get isWorker(): boolean {
    return this.options.role === 'worker';
  }

  async onModuleDestroy(): Promise<void> {
    this.closed.abort();
    this.shutdownBegan = this.clock.monotonic();
    this.impatience.listen();
    this.forgetLater();
    await this.runner.stopSources();
  }

  async beforeApplicationShutdown(): Promise<void> {
    const result = await this.runner.drain(this.impatience.signal);
    if (!result) return;
    const { drained, abandoned } = result;
    const line = `stopped: ${counted(drained, 'window')} drained, ${abandoned} abandoned`;
    if (abandoned === 0) this.logger.log(line);
    else this.logger.warn(`${line}; they will be redelivered after the next start`);
  }

  async onApplicationShutdown(): Promise<void> {
    const { signal } = this.impatience;
    const left = () =>
      signal.aborted ? 0 : this.shutdownBegan + this.options.shutdownTimeout - this.clock.monotonic();
    try {
      // However long the drain has taken, a store that answers is heard.
      await this.hub.close(Math.max(left(), LAST_ANSWERS));
      await closeStore(this.store, { clock: this.clock, log: this.logger, within: left() + AFTERWARDS });
    } finally {
      // Nest ends the process by the signal's default action, which a listener would keep from happening.
      this.impatience.forget();
    }
  }

  /**
   * A store that can't be reached now may be so later: consumers and appends keep trying. Anything else won't get better, and
   * stops the boot, or is said in the log if it comes to light after it.
   */
  private async openStore(): Promise<void> {
    let booting = true;
    const opened = this.hub.open().catch((error: unknown) => {
      if (this.closed.signal.aborted) return;
      const passing = error instanceof MinibatchError && error.code === ErrorCode.StoreUnavailable;
      if (booting && !passing) throw error;
      if (passing) this.logger.warn(`starting without the store (${this.store.name}), retrying: ${messageOf(error)}`);
      else this.logger.error(`the store (${this.store.name}) can't be used: ${messageOf(error)}`);
    });
    const enough = new AbortController();
    const end = AbortSignal.any([enough.signal, this.closed.signal]);
    const waited = delay(this.clock, OPEN_WAIT, end).then(() => {
      if (end.aborted) return;
      booting = false;
      this.logger.warn(`starting without the store (${this.store.name}), which did not answer within ${OPEN_WAIT} ms`);
    });
    try {
      await Promise.race([opened, waited]);
    } finally {
      enough.abort();
    }
  }

  /** Each would find and run every consumer. */
  private refuseSecondModule(): void {
    const roots = [...this.modules.values()].filter((module) => module.providers.has(MinibatchLifecycle));
    if (roots.length <= 1) return;
    throw new MinibatchError(
      ErrorCode.DuplicateModule,
      `MinibatchModule.forRoot() is imported ${roots.length} times: import it once, in the root module (it is global), and ` +
        'MinibatchModule.forFeature([…]) elsewhere',
    );
  }

  /** A little later: `app.enableShutdownHooks()` may be called after the application has started. */
  private checkSetUp(): void {
    if (this.runner.hasWork && process.listenerCount('SIGTERM') === 0) {
      this.logger.warn(
        'nothing listens for SIGTERM: when the process is stopped, windows in flight are interrupted and redelivered; call ' +
          'app.enableShutdownHooks() in main.ts',
      );
    }
    const { consumers, sources } = this.options;
    const bindings: Binding[] = [...(consumers ? [] : ['consumer' as const]), ...(sources ? [] : ['source' as const])];
    for (const line of unprovidedClasses(this.modules, MinibatchLifecycle, bindings, this.runner.bindings))
      this.logger.warn(line);
  }

  /** Their messages would pile up and nobody would notice. */
  private async warnOfOrphans(): Promise<void> {
    try {
      const streams = await this.store.listStreams();
      for (const info of streams) {
        const mismatch = mismatchOf(info, this.hub.declaredPartitions(info.name));
        if (mismatch?.isExpected) this.logger.log(mismatch.text);
        else if (mismatch) this.logger.warn(mismatch.text);
      }
      void this.warnOfUnserved(streams);
      const orphans = streams.filter(({ name, groups }) => groups.length === 0 && !this.registry.knows(name));
      if (orphans.length === 0) return;
      for (const { name, buffered } of await this.store.stats(orphans.map((stream) => stream.name))) {
        if (buffered > 0) this.logger.warn(`'${name}' has ${counted(buffered, 'message')} and no consumer`);
      }
    } catch (error) {
      if (this.closed.signal.aborted) return;
      this.logger.warn(`could not check for streams without a consumer: ${messageOf(error)}`);
    }
  }

  /** Groups left behind by consumers that were renamed or removed: they hold messages back forever. */
  private async warnOfUnserved(streams: readonly StreamInfo[]): Promise<void> {
    const { signal } = this.closed;
    const { leaseTime } = this.options.engine;
    try {
      const isKnown = ({ stream, group }: ConsumerKey) => this.registry.knows(stream, group);
      const pause = { clock: this.clock, leaseTime, signal };
      for (const { stream, group, pending } of await unservedGroups(this.store, streams, isKnown, pause)) {
        this.logger.warn(
          `'${stream}': no process consumes group '${group}', with ${counted(pending, 'message')} waiting: ${unservedAdvice(stream, group)}`,
        );
      }
    } catch (error) {
      if (!signal.aborted) this.logger.warn(`could not check for groups without a consumer: ${messageOf(error)}`);
    }
  }
}
