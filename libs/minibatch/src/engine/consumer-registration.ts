import type { Activity } from '../common/activity.js';
import { backoff } from '../common/backoff.js';
import { type Clock, delay } from '../common/clock.js';
import type { Log } from '../common/log.js';
import { ErrorCode, messageOf, MinibatchError } from '../errors/minibatch.error.js';
import { ensureDeclared } from '../storage/partitions.js';
import type { StreamInfo, StreamStore } from '../storage/stream-store.interface.js';
import type { ConsumerRecord } from './consumer-records.js';
import type { ConsumerDefinition, Retention } from './engine.interface.js';
import { JointStart } from './joint-start.js';

/** Waits between the tries of a registration that the store did not answer. */
const REGISTRATION_BACKOFF = { base: 250, max: 5_000, jitter: 0.3 };

/** The store may answer later; a right that is missing may be granted, and what makes the store refuse may be put right. */
const MAY_PASS: ReadonlySet<ErrorCode> = new Set([
  ErrorCode.StoreUnavailable,
  ErrorCode.StoreDenied,
  ErrorCode.StoreRefused,
]);

/**
 * Registers the groups of consumers, and keeps trying while the store does not answer. Those of one stream begin when all of them are
 * registered.
 */
export class ConsumerRegistration {
  private readonly joint = new JointStart();

  constructor(
    private readonly store: StreamStore,
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly activity: Activity,
    private readonly retention: (stream: string) => Retention | undefined,
    /** How many partitions a stream is declared to have. */
    private readonly declared: (stream: string) => number | undefined,
    /** Aborts when the engine is stopping. */
    private readonly stopping: AbortSignal,
    /** Called with each consumer that may begin. */
    private readonly registered: (record: ConsumerRecord, info: StreamInfo) => void,
  ) {}

  /** Resolves after the first try; others follow in the background. Rejects if the group can't be registered. */
  register(record: ConsumerRecord): Promise<void> {
    this.joint.join(record);
    return this.activity.track(async () => {
      if (!(await this.attempt(record))) void this.retry(record);
    });
  }

  /** The same, for a caller that does not wait. */
  registerInBackground(record: ConsumerRecord): void {
    this.reportFailure(record, this.register(record));
  }

  /** Logs what a registration rejects with. */
  reportFailure(record: ConsumerRecord, registered: Promise<void>): void {
    registered.catch((error: unknown) => this.report(record, error));
  }

  /** The consumer is removed: others of its stream do not wait for it. */
  leave(record: ConsumerRecord): void {
    this.joint.leave(record);
  }

  /** Makes the stream, and the group of a consumer in all its partitions. */
  async ensure(definition: ConsumerDefinition, replaces?: string): Promise<StreamInfo> {
    const { stream } = definition.key;
    const info = await ensureDeclared(this.store, stream, this.declared(stream), this.clock.now());
    await this.registerGroup(definition, replaces);
    return info;
  }

  private async registerGroup({ key, ...definition }: ConsumerDefinition, replaces?: string): Promise<void> {
    // Messages that are too old are found by time, too.
    const timeOrder = definition.timeOrder || this.retention(key.stream)?.buffered !== undefined;
    await this.store.registerGroup(key, { timeOrder, ...(replaces === undefined ? {} : { replaces }) });
  }

  /** Makes the group of a consumer that goes with its stream: one that was dropped is not made again. Undefined if it was. */
  private async join(definition: ConsumerDefinition): Promise<StreamInfo | undefined> {
    const { stream } = definition.key;
    const [info] = await this.store.listStreams([stream]);
    if (!info || this.declared(stream) !== undefined) return info && this.ensure(definition, definition.replaces);
    await this.registerGroup(definition, definition.replaces);
    return info;
  }

  /** Resolves with false if the store did not answer. */
  private async attempt(record: ConsumerRecord): Promise<boolean> {
    const { definition, counters } = record;
    try {
      // A store that was closed is not opened again.
      if (this.stopping.aborted) return true;
      await this.store.open();
      if (this.stopping.aborted) return true;
      const info = await (definition.dropped ? this.join(definition) : this.ensure(definition, definition.replaces));
      if (record.removed || this.stopping.aborted) return true;
      if (!info) {
        this.joint.leave(record);
        definition.dropped?.();
        return true;
      }
      record.registrationFailed = false;
      const flushes = { count: info.flushes, at: this.clock.monotonic() };
      this.joint.ready(record, () => {
        if (record.removed || this.stopping.aborted) return;
        record.flushes = flushes;
        this.registered(record, info);
      });
      return true;
    } catch (error) {
      if (this.stopping.aborted) return true;
      record.registrationFailed = true;
      if (error instanceof MinibatchError && !MAY_PASS.has(error.code)) {
        this.joint.leave(record);
        throw error;
      }
      counters.failed(this.clock.now(), error);
      const others = this.joint.isAwaited(record) ? ` (other consumers of '${definition.key.stream}' wait for it)` : '';
      this.log.warn(`${definition.label}: can't register its group, retrying${others}: ${messageOf(error)}`);
      return false;
    }
  }

  private async retry(record: ConsumerRecord): Promise<void> {
    for (let failures = 1; ; failures += 1) {
      await delay(this.clock, backoff(REGISTRATION_BACKOFF, failures), this.stopping);
      if (record.removed || this.stopping.aborted) return;
      try {
        if (await this.activity.track(() => this.attempt(record))) return;
      } catch (error) {
        this.report(record, error);
        return;
      }
    }
  }

  private report({ definition, counters }: ConsumerRecord, error: unknown): void {
    counters.failed(this.clock.now(), error);
    this.log.error(`${definition.label}: ${messageOf(error)}`);
  }
}
