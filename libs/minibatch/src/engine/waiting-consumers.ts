import type { Clock } from '../common/clock.js';
import type { ActiveConsumer, ConsumerRecord, ConsumerRecords } from './consumer-records.js';
import type { Standing } from './standing.js';
import type { AwaitingConsumer, AwaitingConsumers } from './wake-ups.js';

/** The consumers that wait for messages. Each says when it begins and ends to wait, so nobody asks thousands that rest. */
export class WaitingConsumers implements AwaitingConsumers {
  private readonly waiting = new Set<ActiveConsumer>();
  private readonly withMessages = new Set<ActiveConsumer>();
  /** Monotonic times, the oldest first. */
  private readonly begun = new Map<ActiveConsumer, number>();

  constructor(
    private readonly records: ConsumerRecords,
    private readonly clock: Clock,
  ) {}

  stands(record: ActiveConsumer, standing: Standing): void {
    if (standing === 'busy') {
      this.left(record);
      return;
    }
    this.waiting.add(record);
    if (standing === 'holding') this.withMessages.add(record);
    else this.withMessages.delete(record);
    this.begun.delete(record);
    this.begun.set(record, this.clock.monotonic());
  }

  left(record: ActiveConsumer): void {
    this.waiting.delete(record);
    this.withMessages.delete(record);
    this.begun.delete(record);
  }

  /** Those that have read all there is and hold some of it. */
  holding(): readonly ActiveConsumer[] {
    return [...this.withMessages].filter(isHolding);
  }

  get size(): number {
    return this.waiting.size;
  }

  all(): readonly AwaitingConsumer[] {
    return awaiting([...this.waiting]);
  }

  recent(streams: Iterable<string> = []): readonly AwaitingConsumer[] {
    const found = new Set(this.begun.keys());
    for (const stream of streams) {
      for (const record of this.records.of(stream)) if (isActive(record) && this.waiting.has(record)) found.add(record);
    }
    return awaiting([...found]);
  }

  polled(before: number): void {
    for (const [record, since] of this.begun) {
      if (since >= before) return;
      this.begun.delete(record);
    }
  }
}

function isActive(record: ConsumerRecord): record is ActiveConsumer {
  return record.current !== undefined;
}

function isHolding({ current }: ConsumerRecord): boolean {
  return current !== undefined && current.loop.awaitingMessages && current.loop.buffered + current.loop.inFlight > 0;
}

function awaiting(records: readonly ActiveConsumer[]): readonly AwaitingConsumer[] {
  return records
    .filter((record) => isActive(record) && record.current.loop.awaitingMessages)
    .map(({ definition, current }) => ({ key: definition.key, wake: () => current.loop.wake() }));
}
