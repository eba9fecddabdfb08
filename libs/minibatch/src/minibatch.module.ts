import { type DynamicModule, Module, type Provider } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import type { Connection } from 'mongoose';
import { minibatchLog } from './definitions/minibatch-log.js';
import { ApplicationScope } from './consumers/application.scope.js';
import { ConsumerExplorer } from './consumers/consumer.explorer.js';
import { ConsumerRegistry } from './consumers/consumer.registry.js';
import { ExecutorRegistry } from './consumers/executor.registry.js';
import { bindConsumer } from './consumers/consumer.binder.js';
import { PatternConsumers } from './consumers/pattern-consumers.js';
import { RunTimeConsumers } from './consumers/run-time-consumers.js';
import { WindowWorker } from './consumers/window-worker.js';
import type { Engine } from './engine/engine.interface.js';
import { ConsumerEngine } from './engine/consumer-engine.js';
import { checkList, readKeys } from './common/checks.js';
import { type Clock, SystemClock } from './common/clock.js';
import { CLOCK, ENGINE, EXECUTORS, RESOLVED_OPTIONS, STREAM_HUB, STREAM_STORE } from './common/tokens.js';
import { MinibatchLifecycle } from './minibatch.lifecycle.js';
import {
  ConfigurableModuleClass,
  type MinibatchModuleAsyncOptions,
  type MinibatchModuleExtras,
  MODULE_OPTIONS_TOKEN,
  type OPTIONS_TYPE,
} from './minibatch.module-definition.js';
import { requireOptions, type ResolvedOptions, resolveOptions } from './minibatch.options.js';
import { MinibatchRunner } from './minibatch.runner.js';
import { storeParts } from './minibatch.providers.js';
import { keyedWindows } from './pipelines/keyed.binder.js';
import { PipelineExplorer } from './pipelines/pipeline.explorer.js';
import { SourceExplorer } from './sources/source.explorer.js';
import { StatusService } from './status/status.service.js';
import type { StreamStore } from './storage/stream-store.interface.js';
import { streamProviders } from './streams/inject-stream.decorator.js';
import { StreamHub } from './streams/stream-hub.js';
import type { StreamRef } from './definitions/stream-ref.js';
import { StreamService } from './streams/stream.service.js';

const providers: Provider[] = [
  { provide: CLOCK, useClass: SystemClock },
  {
    provide: EXECUTORS,
    inject: [CLOCK, RESOLVED_OPTIONS],
    useFactory: (clock: Clock, { executor }: ResolvedOptions) => new ExecutorRegistry(executor, clock, minibatchLog()),
  },
  {
    provide: RESOLVED_OPTIONS,
    inject: [MODULE_OPTIONS_TOKEN],
    useFactory: (options: unknown) => resolveOptions(requireOptions(options), process.env),
  },
  {
    provide: ENGINE,
    inject: [STREAM_STORE, CLOCK, RESOLVED_OPTIONS],
    useFactory: (store: StreamStore, clock: Clock, { engine }: ResolvedOptions): Engine =>
      new ConsumerEngine(store, clock, minibatchLog(), engine),
  },
  {
    provide: STREAM_HUB,
    inject: [STREAM_STORE, CLOCK, RESOLVED_OPTIONS, ENGINE, RunTimeConsumers],
    useFactory: (
      store: StreamStore,
      clock: Clock,
      { retry, pending, engine }: ResolvedOptions,
      listener: Engine,
      consumers: RunTimeConsumers,
    ) =>
      new StreamHub({
        store,
        clock,
        retry,
        pending,
        listener,
        consumers,
        leaseTime: engine.leaseTime,
        log: minibatchLog(),
      }),
  },
  {
    provide: RunTimeConsumers,
    inject: [ENGINE, STREAM_STORE, CLOCK, RESOLVED_OPTIONS, ApplicationScope, ConsumerRegistry, PatternConsumers],
    useFactory: (
      engine: Engine,
      store: StreamStore,
      clock: Clock,
      { retry, shutdownTimeout, engine: { leaseTime } }: ResolvedOptions,
      scope: ApplicationScope,
      { reserve }: ConsumerRegistry,
      patterns: PatternConsumers,
    ) =>
      new RunTimeConsumers({
        engine,
        clock,
        log: minibatchLog(),
        retry,
        leaseTime,
        shutdownTimeout,
        scope,
        reserve,
        makeKeyed: keyedWindows(store),
        patterns,
      }),
  },
  {
    provide: PatternConsumers,
    inject: [ENGINE, STREAM_STORE, CLOCK, RESOLVED_OPTIONS, EXECUTORS, ConsumerRegistry],
    useFactory: (
      engine: Engine,
      store: StreamStore,
      clock: Clock,
      { shutdownTimeout, engine: { leaseTime } }: ResolvedOptions,
      executors: ExecutorRegistry,
      { reserve }: ConsumerRegistry,
    ) =>
      new PatternConsumers({
        engine,
        store,
        clock,
        log: minibatchLog(),
        every: leaseTime / 3,
        shutdownTimeout,
        reserve,
        bind: (consumer, stream) => bindConsumer({ ...consumer, stream }, executors, keyedWindows(store)),
      }),
  },
  ApplicationScope,
  ConsumerExplorer,
  ConsumerRegistry,
  PipelineExplorer,
  SourceExplorer,
  MinibatchRunner,
  MinibatchLifecycle,
  StreamService,
  StatusService,
  WindowWorker,
];

/** Handles of streams for one module; see `MinibatchModule.forFeature`. */
@Module({})
class MinibatchFeatureModule {}

/** What shapes the module, and is read before it boots. */
const SHAPING = ['store', 'connectionName', 'isGlobal', 'statusController'];

/**
 * Durable mini-batch streams. Import `forRoot()` once, in the root module; it is global.
 *
 * @example
 * ```ts
 * @Module({
 *   imports: [MongooseModule.forRoot('mongodb://localhost/app'), MinibatchModule.forRoot()],
 *   providers: [FlightReport],
 * })
 * export class AppModule {}
 * ```
 */
@Module({
  imports: [DiscoveryModule],
  providers,
  exports: [StreamService, StatusService, MinibatchRunner, WindowWorker],
})
export class MinibatchModule extends ConfigurableModuleClass {
  /** @throws MinibatchError `InvalidOptions` for the store's options; all others are checked at boot */
  static override forRoot(options: typeof OPTIONS_TYPE = {}): DynamicModule {
    readKeys('MinibatchModule.forRoot', options, SHAPING);
    return withStore(super.forRoot(options), options);
  }

  /**
   * As `forRoot`, with the options created by injection. What shapes the module is given next to the factory: `store`,
   * `connectionName`, `isGlobal`, `statusController`.
   */
  static override forRootAsync(options: MinibatchModuleAsyncOptions): DynamicModule {
    readKeys('MinibatchModule.forRootAsync', options, [
      ...SHAPING,
      'useFactory',
      'useClass',
      'useExisting',
      'inject',
      'imports',
    ]);
    return withStore(super.forRootAsync(options), options);
  }

  /** Makes the handles of these streams injectable by `@InjectStream`. */
  static forFeature(streams: readonly (string | StreamRef)[]): DynamicModule {
    const given = checkList('MinibatchModule.forFeature', 'streams', streams, 'a list of streams');
    const handles = streamProviders(given as typeof streams);
    return { module: MinibatchFeatureModule, providers: handles, exports: handles.map(({ provide }) => provide) };
  }
}

function withStore(definition: DynamicModule, extras: MinibatchModuleExtras): DynamicModule {
  const { provider, imports } = storeParts(extras, async (connection, { collections }) => {
    const { MongooseStreamStore } = await import('./storage/mongoose/index.js');
    // What the application provides under the token of a connection.
    return new MongooseStreamStore(connection as Connection, { ...(collections ? { collections } : {}) });
  });
  return {
    ...definition,
    imports: [...(definition.imports ?? []), ...imports],
    providers: [...(definition.providers ?? []), provider],
  };
}
