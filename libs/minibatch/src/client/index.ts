import { type Log, steadyLog } from '../common/log.js';
import { plainScope } from '../consumers/consumer.scope.js';
import { keyedWindows } from '../pipelines/keyed.binder.js';
import { RunTimeConsumers } from '../consumers/run-time-consumers.js';
import { DEFAULT_ENGINE_OPTIONS, ConsumerEngine } from '../engine/consumer-engine.js';
import { ErrorCode, MinibatchError, messageOf } from '../errors/minibatch.error.js';
import { sinkName } from '../sinks/sink-instance.js';
import type { Sink } from '../sinks/sink.interface.js';
import { isAmbiguousUrl, PERCENT_ENCODED, redactUrl } from '../errors/redact.js';
import { checkDuration, checkKeys, invalidOption } from '../common/checks.js';
import { loadPackage } from '../common/missing-package.js';
import { SystemClock } from '../common/clock.js';
import { DEFAULT_RETRY, type Duration, SHUTDOWN_TIMEOUT } from '../definitions/shared.options.js';
import type { MongooseCollections, StoreDefinition } from '../storage/store-definition.js';
import type { StreamStore } from '../storage/stream-store.interface.js';
import { resolvePending } from '../streams/pending-limit.js';
import type { Stream } from '../streams/stream.js';
import { closeStore } from '../streams/store-closing.js';
import { StreamHub } from '../streams/stream-hub.js';
import type { StreamRef } from '../definitions/stream-ref.js';

export { AppendError, ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
export { defineStream } from '../definitions/stream-ref.js';
export type { StreamRef } from '../definitions/stream-ref.js';
export type { MaxAge, StreamOptions } from '../definitions/stream-settings.js';
export type { MessageFilter, MessageState, StreamMessage } from '../streams/message-reading.js';
export type { ReplayOptions } from '../streams/replay.js';
export type { StreamWindow, WindowFilter, WindowState } from '../streams/window-reading.js';
export type { RemovalOptions } from '../streams/removal.js';
export type { AppendResult, FailedAppend } from '../streams/append-result.js';
export type { Stream } from '../streams/stream.js';
export type {
  AppendManyOptions,
  AppendMessageOptions,
  OpenWindowChoice,
  SkipChoice,
} from '../streams/stream-operations.js';
export type { DrainedStream } from '../consumers/drain.js';
export type { RunningConsumer } from '../consumers/run-time-consumers.js';
export type { DrainOptions, StreamingOptions } from '../consumers/streaming.options.js';
export type { Window } from '../windows/window.js';
export type { MongooseCollections, StoreDefinition } from '../storage/store-definition.js';
export type { StreamStore } from '../storage/stream-store.interface.js';

/** A stream's handle in a program without Nest. */
export interface OpenStream<T = unknown> extends Stream<T> {
  /** Stops sources and consumers, waits for appends in flight, and releases the store, so that the program can end. */
  disconnect(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** How long the store may take to close when a stream is disconnected; milliseconds. */
const CLOSING = 2_000;

export interface OpenStreamOptions {
  /** Where sources that fail are reported. @default the console */
  readonly log?: Log;
  /**
   * How long `disconnect()` waits for running consumers, and then for the store to answer appends in flight; after that they fail.
   * Milliseconds, or a string like `'5s'`. @default '5s'
   */
  readonly shutdownTimeout?: Duration;
  /**
   * Most messages appended that the store has not answered for. Beyond it an append fails with the code `StreamFull`, or waits, as the
   * stream's `overflow` says. @default 100,000
   */
  readonly maxPendingAppends?: number;
  /** The same in bytes of data, keys, headers and dedupe ids. @default 128 MiB */
  readonly maxPendingAppendBytes?: number;
}

/**
 * Opens a stream in a plain Node program, which may append to it, feed it from sources, consume it, pause
 * and flush it.
 *
 * @param store what `lmdbStore`, `mongoStore` make, or a store of your own; each stream needs one for itself, because
 *   `disconnect()` closes it
 * @throws MinibatchError if the store can't be opened
 * @example
 * ```ts
 * const flights = await openStream<Flight>(lmdbStore({ path: './data' }), 'flights');
 * await flights.append({ origin: 'SAT', delay: 25 });
 * await flights.disconnect();
 * ```
 */
export async function openStream<T = unknown>(
  store: StoreDefinition | StreamStore,
  stream: string | StreamRef<T>,
  options: OpenStreamOptions = {},
): Promise<OpenStream<T>> {
  checkKeys('openStream', options, ['log', 'shutdownTimeout', 'maxPendingAppends', 'maxPendingAppendBytes']);
  const pending = resolvePending('openStream', options);
  const shutdownTimeout = checkDuration('openStream', 'shutdownTimeout', options.shutdownTimeout ?? SHUTDOWN_TIMEOUT, {
    min: 0,
  });
  const opened = await makeStore(store);
  const clock = new SystemClock();
  const log = steadyLog(options.log ?? consoleLog);
  const engine = new ConsumerEngine(opened, clock, log);
  const sinks = new Set<Sink>();
  const consumers = new RunTimeConsumers({
    engine,
    clock,
    log,
    retry: DEFAULT_RETRY,
    leaseTime: DEFAULT_ENGINE_OPTIONS.leaseTime,
    shutdownTimeout,
    scope: scopeRemembering(sinks),
    makeKeyed: keyedWindows(opened),
    // The engine has no other consumers than these, and refuses a second one of a group.
    reserve: () => () => undefined,
  });
  const hub = new StreamHub({
    store: opened,
    clock,
    log,
    retry: DEFAULT_RETRY,
    pending,
    consumers,
    listener: engine,
  });
  const handle = hub.stream(stream);
  try {
    await hub.open();
  } catch (error) {
    // What it has taken would keep the program from ending.
    await closeStore(opened, { clock, log, within: CLOSING }).catch(() => undefined);
    throw error;
  }
  const disconnect = async () => {
    await hub.stopSources();
    await engine.stop(shutdownTimeout);
    await closeAll(sinks, log);
    await hub.close(shutdownTimeout);
    await closeStore(opened, { clock, log, within: CLOSING });
  };
  return Object.assign(handle, {
    disconnect,
    [Symbol.asyncDispose]: disconnect,
  });
}

/** The scope of a program without injection. It remembers the sinks, which `disconnect()` closes. */
function scopeRemembering(sinks: Set<Sink>): typeof plainScope {
  return {
    ...plainScope,
    sinks: async (label, refs) => {
      const found = await plainScope.sinks(label, refs);
      for (const { sink } of found) sinks.add(sink);
      return found;
    },
  };
}

export interface MongoStoreOptions {
  /** Names of the collections. @default 'stream', 'buffer', 'window', 'consumer', 'deadletter', 'state' */
  readonly collections?: MongooseCollections;
}

/** Streams in MongoDB, on a connection of its own that is closed by `disconnect()`. */
export function mongoStore(uri: string, options: MongoStoreOptions = {}): StoreDefinition {
  if (typeof uri !== 'string')
    throw invalidOption('mongoStore', 'uri', uri, "a string such as 'mongodb://localhost/app'");
  if (isAmbiguousUrl(uri)) throw invalidOption('mongoStore', 'uri', redactUrl(uri), `a URI with ${PERCENT_ENCODED}`);
  return {
    kind: 'mongoose',
    async useFactory() {
      // Loaded only here: a program that appends to LMDB does not wait for it.
      const { default: mongoose } = await loadPackage('mongoStore', 'mongoose', () => import('mongoose'));
      const { MongooseStreamStore } = await import('../storage/mongoose/index.js');
      const { asStoreError, isDenied } = await import('../storage/mongoose/store-errors.js');
      const connection = mongoose.createConnection(uri);
      let isClosed = false;
      class OwnConnectionStore extends MongooseStreamStore {
        override async open(): Promise<void> {
          try {
            await (isClosed ? connection.openUri(uri) : connection.asPromise());
            isClosed = false;
          } catch (cause) {
            if (isDenied(cause)) throw asStoreError(`sign in at ${redactUrl(uri)}`, cause);
            throw new MinibatchError(
              ErrorCode.StoreUnavailable,
              `MongoDB at ${redactUrl(uri)} can't be reached: check that it runs and that the address is right`,
              { cause },
            );
          }
          await super.open();
        }

        override async close(): Promise<void> {
          await super.close();
          await connection.close();
          isClosed = true;
        }
      }
      return new OwnConnectionStore(connection, options);
    },
  };
}

/** A sink that cannot be closed does not keep the others, or the store, from it. */
async function closeAll(sinks: ReadonlySet<Sink>, log: Log): Promise<void> {
  const closing = [...sinks].map(async (sink) => {
    try {
      await sink.close?.();
    } catch (error) {
      log.error(`openStream: closing the sink ${sinkName(sink)} failed: ${messageOf(error)}`);
    }
  });
  await Promise.all(closing);
}

async function makeStore(store: StoreDefinition | StreamStore): Promise<StreamStore> {
  if (typeof store !== 'object' || store === null || !('append' in store || 'kind' in store)) {
    throw invalidOption(
      'openStream',
      'store',
      store,
      'mongoStore(uri), lmdbStore({ path }), postgresStore({ … }) or memoryStore()',
    );
  }
  if ('append' in store) return store;
  if ('useFactory' in store && (store.inject ?? []).length === 0) return store.useFactory();
  throw new MinibatchError(
    ErrorCode.InvalidOptions,
    `openStream: the store '${store.kind}' needs Nest's injection, which is not available here; allowed: lmdbStore({ path }), mongoStore(uri)`,
    { details: { option: 'store', given: store.kind } },
  );
}

/** There is no logger in a plain program. */
const consoleLog: Log = {
  log: (message) => process.stderr.write(`${message}\n`),
  warn: (message) => process.stderr.write(`${message}\n`),
  error: (message) => process.stderr.write(`${message}\n`),
};
