import type { Activity } from '../common/activity.js';
import type { Clock } from '../common/clock.js';
import type { Log } from '../common/log.js';
import { messageOf } from '../errors/minibatch.error.js';
import { partitionCount } from '../storage/partitions.js';
import { consumerId, type GroupKey, type StreamInfo } from '../storage/stream-store.interface.js';
import type { ConsumerRecord, ConsumerRecords } from './consumer-records.js';

/** Partitions of a drain that have nothing left. */
interface Drain {
  readonly done: Set<number>;
  readonly drained: () => void;
}

/**
 * Makes a consumer for each partition of a stream out of the one that the application has defined, when its group is registered and when the
 * stream is given more partitions.
 */
export class ConsumerPartitions {
  /** How many partitions each stream has; absent: one. */
  private readonly counts = new Map<string, number>();
  private readonly making = new Set<string>();
  private readonly drains = new Map<string, Drain>();

  constructor(
    private readonly records: ConsumerRecords,
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly activity: Activity,
    /** Aborts when the engine is stopping. */
    private readonly stopping: AbortSignal,
    /** Called with each consumer that was made: its group is registered. */
    private readonly made: (record: ConsumerRecord) => void,
  ) {}

  count(stream: string): number {
    return this.counts.get(stream) ?? 1;
  }

  /** The stream as it was read. */
  follow(info: StreamInfo): void {
    const { name } = info;
    const count = partitionCount(info);
    if (count === this.count(name)) return;
    this.counts.set(name, count);
    for (const record of [...this.records.of(name)]) {
      record.current?.term.limiter?.divide(count);
      if (record.flushes) this.extend(record, info);
    }
  }

  /** The group of the consumer is registered in all partitions. */
  registered(record: ConsumerRecord, info: StreamInfo): void {
    this.follow(info);
    this.extend(record, info);
  }

  /** What is called when one partition has nothing left; `drained` is called once that was so for all of them. */
  gather(key: GroupKey, drained: () => void): (partition: number) => void {
    const id = groupId(key);
    this.drains.set(id, { done: new Set(), drained });
    return (partition) => {
      const drain = this.drains.get(id);
      drain?.done.add(partition);
      if (drain && drain.done.size >= this.count(key.stream)) drain.drained();
    };
  }

  /** The consumers of the group are gone. */
  forget(key: GroupKey): void {
    this.drains.delete(groupId(key));
  }

  private extend(record: ConsumerRecord, info: StreamInfo): void {
    const { key, another } = record.definition;
    if (key.partition !== 0 || !another) return;
    for (let partition = 1; partition < partitionCount(info); partition += 1)
      this.add(record, partition, another, info);
  }

  private add(first: ConsumerRecord, partition: number, another: Another, info: StreamInfo): void {
    const key = { ...first.definition.key, partition };
    const id = consumerId(key);
    if (this.records.get(key) || this.making.has(id)) return;
    this.making.add(id);
    const make = async () => {
      try {
        const emitter = await another();
        // It was removed in the meantime.
        if (this.stopping.aborted || this.records.get(first.definition.key) !== first || first.removed) return;
        const record = this.records.add({ ...first.definition, key, emitter });
        record.runsAtOnce = first.runsAtOnce;
        record.flushes = { count: info.flushes, at: this.clock.monotonic() };
        this.made(record);
      } catch (error) {
        first.counters.failed(this.clock.now(), error);
        this.log.error(`${first.definition.label}: can't work for partition ${partition}: ${messageOf(error)}`);
      } finally {
        this.making.delete(id);
      }
    };
    void this.activity.track(make);
  }
}

type Another = NonNullable<ConsumerRecord['definition']['another']>;

function groupId({ stream, group }: GroupKey): string {
  return `${stream}\0${group}`;
}
