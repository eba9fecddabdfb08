// Set up
export { MinibatchModule } from './minibatch.module.js';
export type { MinibatchModuleExtras, StatusControllerOptions, StoreChoice } from './minibatch.module-definition.js';
export type { MinibatchModuleOptions, MinibatchRole } from './minibatch.options.js';
export { MinibatchRunner } from './minibatch.runner.js';
export type { AttemptRetryOptions, Duration, RetryOptions } from './definitions/shared.options.js';

// Consume
export { Streaming } from './consumers/streaming.decorator.js';
export type {
  ConsumerOptions,
  CountOptions,
  EmitterClass,
  EmitterOptions,
  FixedTimeOptions,
  HoppingOptions,
  KeyedCountOptions,
  KeyOption,
  RateLimitOptions,
  RelaxedTimeOptions,
  SessionOptions,
  StreamingOptions,
  TimeOption,
  WindowOptions,
} from './consumers/streaming.options.js';
export { Window } from './windows/window.js';
export type { Message } from './windows/message.js';
export type { Stored } from './windows/stored.js';
export type { Sink } from './sinks/sink.interface.js';
export type { ResultFor, SinkRef } from './sinks/sink-ref.js';

// Cut windows in your own way
export { CountWindow } from './windows/count.window.js';
export { FixedTimeWindow } from './windows/fixed-time.window.js';
export { RelaxedTimeWindow } from './windows/relaxed-time.window.js';
export { WindowEmitter } from './windows/window-emitter.js';
export type { EmitterContext, MessageView, ReadPlan, Selection } from './windows/window-emitter.js';
export type { BufferedMessage } from './windows/message.js';

// Produce
export { StreamService } from './streams/stream.service.js';
export type { DrainedStream } from './consumers/drain.js';
export type { RunningConsumer } from './consumers/run-time-consumers.js';
export type { DrainOptions } from './consumers/streaming.options.js';
export { Stream } from './streams/stream.js';
export type {
  AppendManyOptions,
  AppendMessageOptions,
  OpenWindowChoice,
  SkipChoice,
} from './streams/stream-operations.js';
export type { MessageFilter, MessageState, StreamMessage } from './streams/message-reading.js';
export type { ReplayOptions } from './streams/replay.js';
export type { StreamWindow, WindowFilter, WindowState } from './streams/window-reading.js';
export type { RemovalOptions } from './streams/removal.js';
export type { AppendResult, FailedAppend } from './streams/append-result.js';
export { defineStream } from './definitions/stream-ref.js';
export type { StreamRef } from './definitions/stream-ref.js';
export type { MaxAge, StreamOptions } from './definitions/stream-settings.js';
export { getStreamToken, InjectStream } from './streams/inject-stream.decorator.js';

// Feed streams from outside
export { StreamSource } from './sources/stream-source.decorator.js';
export type { StreamSourceOptions } from './sources/stream-source.decorator.js';
export { SourceState } from './sources/source-runner.js';
export type { AttachedSource, AttachOptions, SourceStatus } from './sources/source-runner.js';
export type { Clock } from './common/clock.js';
export type { Log } from './common/log.js';
export type { SourceCounters } from './adapters/source-counters.js';
export { FailureReason } from './adapters/failure-reason.js';
export type { FailedResult } from './adapters/failed-result.js';
export type { Source, SourceAppendManyOptions, SourceAppendOptions, SourceTarget } from './sources/source.interface.js';

// Read from and write to MongoDB collections
export { CollectionSource } from './adapters/collection/collection.source.js';
export type {
  CollectionOperation,
  CollectionReading,
  CollectionSourceOptions,
  LostTokenPolicy,
} from './adapters/collection/collection-source.options.js';
export type { CollectionFilter } from './adapters/collection/collection-filter.js';
export type { UnstorablePolicy } from './adapters/policies.js';
export type { CollectionFinder, CollectionRef } from './adapters/collection/collection-ref.js';
export { CollectionSink } from './adapters/collection/collection.sink.js';
export type { CollectionSinkOptions, CollectionWriting } from './adapters/collection/collection-sink.options.js';

// Run methods elsewhere
export { InlineExecutor } from './executors/inline.executor.js';
export { WindowWorker } from './consumers/window-worker.js';
export { readOutcome } from './executors/outcome-codec.js';
export type {
  Executor,
  ExecutorConsumer,
  ExecutorWorker,
  HandleOptions,
  Rejection,
  ServedConsumer,
  WindowOutcome,
  WindowTask,
} from './executors/executor.interface.js';
export type { ExecutorRef } from './executors/executor-ref.js';
export {
  ExecutorUnavailable,
  ProtocolMismatch,
  RemoteHandlerError,
  ResultLost,
  ResultUnsendable,
  WorkerLost,
} from './errors/executor-errors.js';
export type { RemoteHandlerErrorOptions } from './errors/executor-errors.js';

// Observe
export { StatusController } from './status/status.controller.js';
export { StatusService } from './status/status.service.js';
export type {
  ConsumerReport,
  ErrorReport,
  HealthReason,
  HealthSummary,
  SourceReport,
  StatusSnapshot,
  StreamReport,
} from './status/status.types.js';
export { ConsumerState } from './engine/engine.interface.js';
export type { ConsumerActivity, ConsumerStatus } from './engine/engine.interface.js';

// Handle errors
export { AppendError, ErrorCode, MinibatchError, RejectMessages, ResultRefused } from './errors/minibatch.error.js';
export type { MinibatchErrorOptions, RejectedMessage } from './errors/minibatch.error.js';

// Store
export { memoryStore } from './storage/memory/index.js';
export { mongooseStore } from './storage/store-definition.js';
export type {
  MongooseCollections,
  MongooseStoreDefinition,
  MongooseStoreOptions,
  StoreDefinition,
} from './storage/store-definition.js';
export type {
  DeadLetter,
  DeadLetterFilter,
  StreamInfo,
  StreamStats,
  StreamStore,
  StreamWatcher,
} from './storage/stream-store.interface.js';
