import { consumerId, type ConsumerKey, type StreamInfo } from '../storage/stream-store.interface.js';
import type { ConsumerRecord, ConsumerRecords } from './consumer-records.js';
import type { ConsumerRegistration } from './consumer-registration.js';
import type { ConsumerPartitions } from './consumer-partitions.js';
import type { EngineParts } from './lease-term.js';
import type { HoldingConsumers } from './stream-control-poller.js';
import type { WaitingConsumers } from './waiting-consumers.js';

/**
 * A flush that was asked for while nobody held the lease is carried out by the next holder, if it has known the stream for no longer
 * than this many lease times.
 */
const FLUSH_MEMORY = 2;
/** Rounds of leases read the streams once in this share of the lease time: more often than they come when nothing is about to move. */
const REFRESH_EVERY = 1 / 8;

/** Carries out what was asked of streams from any process: pause, resume, flush, clear, and requests of operators. */
export class StreamControl {
  /** How often consumers of each stream were asked for something, as far as it was carried out here; of streams that are consumed here. */
  private readonly carriedOut = new Map<string, number>();
  private readonly reading = new Set<string>();
  /** Monotonic time of the last read after a round. */
  private refreshed = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly parts: EngineParts,
    private readonly records: ConsumerRecords,
    private readonly registration: ConsumerRegistration,
    private readonly partitions: ConsumerPartitions,
    private readonly consumers: Pick<WaitingConsumers, 'holding'>,
  ) {}

  /**
   * Reads what is asked of these streams, and carries it out.
   *
   * @param requested consumers that another process is to hand over to this one. From then on that one carries out no flush, so it is left
   *   to the term that begins here
   */
  async refresh(streams: readonly string[], requested: readonly ConsumerKey[] = []): Promise<void> {
    const names = [...new Set([...streams, ...requested.map(({ stream }) => stream)])];
    if (names.length === 0) return;
    const infos = await this.parts.store.listStreams(names);
    for (const info of infos) this.applyStreamControl(info);
    const byName = new Map(requested.length > 0 ? infos.map((info) => [info.name, info]) : []);
    for (const key of requested) this.rememberFlushes(this.records.get(key), byName.get(key.stream));
    if (infos.length === names.length) return;
    const present = new Set(infos.map(({ name }) => name));
    await this.restore(names.filter((name) => !present.has(name)));
  }

  /** The same with each round of leases, unless the one before was a moment ago: a process that awaits a lease has many of them. */
  async refreshAfterRound(streams: readonly string[], requested: readonly ConsumerKey[]): Promise<void> {
    const { clock, options } = this.parts;
    const now = clock.monotonic();
    const isSoon = now - this.refreshed < options.leaseTime * REFRESH_EVERY;
    if (isSoon && requested.every((key) => this.isRemembered(this.records.get(key)))) return;
    await this.refresh(streams, requested);
    this.refreshed = now;
  }

  private isRemembered(record: ConsumerRecord | undefined): boolean {
    return record === undefined || (record.flushes !== undefined && !this.isOutdated(record));
  }

  /** How often consumers of the stream were asked for something. The next commit repeats it if this read fails. */
  asked(stream: string, count: number): void {
    if (count <= (this.carriedOut.get(stream) ?? 0) || this.reading.has(stream)) return;
    this.reading.add(stream);
    const read = async () => {
      try {
        await this.refresh([stream]);
        // The stream may have been made again since: then it counts from the start.
        this.note(stream, Math.max(count, this.carriedOut.get(stream) ?? 0));
      } finally {
        this.reading.delete(stream);
      }
    };
    this.parts.activity.track(read).catch(() => undefined);
  }

  /** A lease term of the consumer begins. */
  began(record: ConsumerRecord): void {
    // Another holder may have carried out what was asked for since.
    if (this.isOutdated(record)) delete record.flushes;
  }

  /** As they are when the lease is asked for; later ones are carried out when it is acquired. */
  private rememberFlushes(record: ConsumerRecord | undefined, info: StreamInfo | undefined): void {
    if (!record || record.current || !info) return;
    const known = this.isOutdated(record) ? undefined : record.flushes;
    record.flushes = { count: known?.count ?? info.flushes, at: this.parts.clock.monotonic() };
  }

  private isOutdated({ flushes }: ConsumerRecord): boolean {
    const { clock, options } = this.parts;
    return flushes !== undefined && clock.monotonic() - flushes.at > FLUSH_MEMORY * options.leaseTime;
  }

  /** A lease term of the consumer is over. What is asked for is read anew when the next one begins. */
  ended({ definition }: ConsumerRecord): void {
    const { stream } = definition.key;
    if (!this.records.isConsumed(stream)) this.carriedOut.delete(stream);
  }

  private note(stream: string, count: number): void {
    if (this.records.isConsumed(stream)) this.carriedOut.set(stream, count);
  }

  /** Consumers that a flush is for. One that has a backlog needs none, and is not to pay for the polls. */
  get waiting(): HoldingConsumers {
    const waiting = this.consumers.holding();
    const fingerprint = waiting.map(({ definition, counters, current: { loop } }) =>
      [consumerId(definition.key), loop.buffered, loop.inFlight, counters.committedWindows].join(' '),
    );
    return {
      fingerprint: fingerprint.length === 0 ? undefined : fingerprint.join('\n'),
      streams: [...new Set(waiting.map(({ definition }) => definition.key.stream))],
    };
  }

  /** The records of the streams were dropped, and those of their consumers were not. */
  private async restore(streams: readonly string[]): Promise<void> {
    const gone = streams.flatMap((stream) => [...this.records.of(stream)].filter(({ current }) => current));
    for (const { definition } of gone) {
      if (definition.dropped) {
        definition.dropped();
        continue;
      }
      const { stream } = definition.key;
      this.parts.log.warn(`${definition.label}: stream '${stream}' is gone from the store; creating it again`);
      await this.registration.ensure(definition);
    }
  }

  private applyStreamControl(info: StreamInfo): void {
    const { name, paused, flushes, clearings = 0, requests = [], asked = 0, growths = [] } = info;
    this.note(name, asked);
    this.partitions.follow(info);
    for (const record of this.records.of(name)) {
      const { definition, current, flushes: known } = record;
      // One without a lease reads it when its term begins.
      if (!current) continue;
      record.flushes = { count: flushes, at: this.parts.clock.monotonic() };
      current.loop.setPaused(paused);
      current.loop.setGrowths(growths);
      current.loop.setClearings(clearings);
      current.loop.setRequests(requests.filter(({ group }) => group === definition.key.group));
      if (known && flushes > known.count) current.loop.flush();
    }
  }
}
