import { type DynamicModule } from '@nestjs/common';
import { minibatchLog } from '../definitions/minibatch-log.js';
import { ConsumerEngine } from '../engine/consumer-engine.js';
import { type Clock, SystemClock } from '../common/clock.js';
import { CLOCK, ENGINE, EXECUTORS, RESOLVED_OPTIONS, STREAM_HUB, STREAM_STORE } from '../common/tokens.js';
import { ConsumerRegistry } from '../consumers/consumer.registry.js';
import { MinibatchModule } from '../minibatch.module.js';
import type { StoreChoice } from '../minibatch.module-definition.js';
import type { MinibatchModuleOptions, ResolvedOptions } from '../minibatch.options.js';
import { memoryStore } from '../storage/memory/index.js';
import type { StreamStore } from '../storage/stream-store.interface.js';
import type { StreamHub } from '../streams/stream-hub.js';
import { MinibatchHarness } from './minibatch.harness.js';
import { RecordingEngine } from './recording-engine.js';
import { VirtualClock } from './virtual-clock.js';

export interface MinibatchTestingOptions extends MinibatchModuleOptions {
  /** Where streams are kept. @default `memoryStore()` */
  readonly store?: StoreChoice;
  /** A clock that the test moves, `'system'`, or one of your own. @default a new `VirtualClock` */
  readonly clock?: Clock | 'system';
}

/**
 * Takes the place of `MinibatchModule` in unit tests: streams lie in memory, and time stands still until the test moves it.
 * Inject `MinibatchHarness`.
 */
export class MinibatchTestingModule {
  static forRoot(options: MinibatchTestingOptions = {}): DynamicModule {
    const { store = memoryStore(), clock = new VirtualClock(), ...rest } = options;
    const real = MinibatchModule.forRoot({ ...rest, store });
    return {
      ...real,
      providers: [
        ...(real.providers ?? []),
        { provide: CLOCK, useValue: clock === 'system' ? new SystemClock() : clock },
        // Handlers are observed, and time is the test's: all of it in this process.
        {
          provide: EXECUTORS,
          useFactory: () => ({ bind: () => undefined, open: async () => undefined, close: async () => undefined }),
        },
        {
          provide: ENGINE,
          inject: [STREAM_STORE, CLOCK, RESOLVED_OPTIONS],
          useFactory: (made: StreamStore, time: Clock, { engine }: ResolvedOptions) =>
            new RecordingEngine((mortal) => new ConsumerEngine(mortal, time, minibatchLog(), engine), made, time),
        },
        {
          provide: MinibatchHarness,
          inject: [ENGINE, STREAM_HUB, CLOCK, RESOLVED_OPTIONS, ConsumerRegistry],
          useFactory: (
            recording: RecordingEngine,
            hub: StreamHub,
            time: Clock,
            { engine }: ResolvedOptions,
            registry: ConsumerRegistry,
          ) => new MinibatchHarness(recording, hub, time, engine.leaseTime, registry),
        },
      ],
      exports: [...(real.exports ?? []), MinibatchHarness],
    };
  }
}
