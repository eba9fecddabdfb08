import { setImmediate } from 'node:timers/promises';
import { Inject, Injectable } from '@nestjs/common';
import { minibatchLog } from '../definitions/minibatch-log.js';
import type { Engine } from '../engine/engine.interface.js';
import { ErrorCode, MinibatchError, messageOf } from '../errors/minibatch.error.js';
import { unknownStream } from '../errors/store-faults.js';
import type { Clock } from '../common/clock.js';
import { CLOCK, ENGINE, STREAM_HUB, STREAM_STORE } from '../common/tokens.js';
import type { ForeignDocuments, StreamStats, StreamStore } from '../storage/stream-store.interface.js';
import type { StreamHub } from '../streams/stream-hub.js';
import { health, storeFault } from './health.js';
import { reportError, reportStreams } from './status.report.js';
import type { ErrorReport, HealthSummary, StatusSnapshot, StreamReport } from './status.types.js';
import { counted } from '../common/counted.js';

interface StoreAnswer {
  readonly stats: readonly StreamStats[];
  readonly error?: ErrorReport;
}

/** Tells how streams, consumers and sources are doing. */
@Injectable()
export class StatusService {
  private readonly logger = minibatchLog();
  /** In flight, by stream; null: all streams. */
  private readonly counting = new Map<string | null, Promise<StoreAnswer>>();
  /** Streams with documents that are no messages. */
  private readonly warned = new Set<string>();

  constructor(
    @Inject(STREAM_STORE) private readonly store: StreamStore,
    @Inject(ENGINE) private readonly engine: Engine,
    @Inject(STREAM_HUB) private readonly hub: StreamHub,
    @Inject(CLOCK) private readonly clock: Clock,
  ) {}

  /**
   * All streams, counted in the store in one go. Calls that come in one turn of the event loop, or while it counts, share the answer, so
   * that many readers cost as much as one. A store that does not answer is reported, not thrown.
   */
  async snapshot(): Promise<StatusSnapshot> {
    const { stats, error } = await this.count(null);
    const { by, lastError } = this.engine.wakeUps();
    const snapshot = {
      at: new Date(this.clock.now()).toISOString(),
      store: {
        name: this.store.name,
        wakeUps: by,
        ...(lastError ? { watchError: reportError(lastError) } : {}),
        ...(error ? { error } : {}),
      },
      streams: reportStreams(stats, this.engine.status(), this.hub.sources()),
    };
    return { ...snapshot, health: health(snapshot) };
  }

  /** One stream, counted alone. @throws MinibatchError `UnknownStream`, `StoreUnavailable`, `StoreDenied`, `StoreRefused` */
  async stream(name: string): Promise<StreamReport> {
    const { stats, error } = await this.count(name);
    const stream = reportStreams(stats, this.engine.status(), this.hub.sources()).find((each) => each.name === name);
    if (stream) return stream;
    if (error) throw unanswered(error);
    throw unknownStream(name);
  }

  /** A summary for a health endpoint. */
  async health(): Promise<HealthSummary> {
    return (await this.snapshot()).health;
  }

  private count(stream: string | null): Promise<StoreAnswer> {
    const shared = this.counting.get(stream) ?? this.ask(stream).finally(() => this.counting.delete(stream));
    this.counting.set(stream, shared);
    return shared;
  }

  private async ask(stream: string | null): Promise<StoreAnswer> {
    try {
      // An embedded store counts at once: without a turn in between nobody could share it.
      await setImmediate();
      const stats = await this.store.stats(stream === null ? undefined : [stream]);
      for (const { name, foreign } of stats) if (foreign) this.warnOfForeign(name, foreign);
      return { stats };
    } catch (error) {
      const code = error instanceof MinibatchError ? error.code : ErrorCode.StoreUnavailable;
      return { stats: [], error: reportError({ at: new Date(this.clock.now()), code, message: messageOf(error) }) };
    }
  }

  /** Once for each stream. */
  private warnOfForeign(stream: string, { documents, example }: ForeignDocuments): void {
    if (this.warned.has(stream)) return;
    this.warned.add(stream);
    this.logger.warn(
      `skipping ${counted(documents, 'document')} of '${stream}' in the buffer that ${documents === 1 ? 'is not a message' : 'are not messages'}: the _id is not an ObjectId, ` +
        `created is not a date, or done, waits or partition has a wrong type. An example is ${example}. Fix what wrote them, ` +
        `then correct or remove them`,
    );
  }
}

function unanswered({ code, message }: ErrorReport): MinibatchError {
  const own = [ErrorCode.StoreDenied, ErrorCode.StoreRefused].find((each) => each === code);
  return new MinibatchError(
    own ?? ErrorCode.StoreUnavailable,
    `the store ${storeFault(own) ?? 'does not answer'}: ${message}`,
  );
}
