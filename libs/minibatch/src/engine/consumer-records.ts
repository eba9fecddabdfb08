import type { Clock } from '../common/clock.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { consumerId, type ConsumerKey, type GroupKey } from '../storage/stream-store.interface.js';
import { Calls } from './calls.js';
import type { ConsumerLoop } from './consumer-loop.js';
import { NoteWriter } from './consumer-note.js';
import { ConsumerCounters } from './counters.js';
import type { ConsumerDefinition, Heir } from './engine.interface.js';
import { HandlerRuns } from './handler-runs.js';
import type { LeaseTerm } from './lease-term.js';
import { Workers } from './workers.js';

/** What works for a consumer while its lease is held. */
export interface CurrentTerm {
  readonly term: LeaseTerm;
  readonly loop: ConsumerLoop;
  /** Settles when the loop has ended. */
  readonly done: Promise<void>;
}

/** One consumer of this process through all its lease terms. */
export interface ConsumerRecord {
  readonly definition: ConsumerDefinition;
  readonly counters: ConsumerCounters;
  readonly calls: Calls;
  readonly workers: Workers;
  /** Those of all partitions of the group. */
  readonly runs: HandlerRuns;
  /** Tells other processes of it. */
  readonly notes: NoteWriter;
  /** True once the strategy has taken up its work: it is closed in the end. */
  initialised: boolean;
  /** How often a flush of its stream had been asked for when that was read last, and when that was, by the monotonic clock. */
  flushes?: { readonly count: number; readonly at: number };
  /** True if it was told to run, whether the engine was started or not. */
  runsAtOnce: boolean;
  /** True while the last try to register its group has failed: it can't run. */
  registrationFailed: boolean;
  /** True once this consumer alone was told to stop. */
  removed: boolean;
  /** Settles when its lease is given back and its strategy is closed. */
  leaving?: Promise<void>;
  /** Windows that were in flight when the lease was lost. */
  left?: number;
  current?: CurrentTerm;
  /** Who has asked for the lease that is held. */
  heir?: Heir;
}

/** A consumer whose lease this process holds. */
export type ActiveConsumer = ConsumerRecord & { readonly current: CurrentTerm };

const NONE: readonly ConsumerRecord[] = [];

/** The consumers of this process. */
export class ConsumerRecords {
  private readonly records = new Map<string, ConsumerRecord>();
  private readonly byStream = new Map<string, Set<ConsumerRecord>>();

  constructor(private readonly clock: Clock) {}

  /** @throws MinibatchError `DuplicateGroup` if its group has a consumer already */
  add(definition: ConsumerDefinition): ConsumerRecord {
    const id = consumerId(definition.key);
    const known = this.records.get(id);
    if (known) {
      const { group, stream } = definition.key;
      throw new MinibatchError(
        ErrorCode.DuplicateGroup,
        `Group '${group}' of stream '${stream}' has a consumer already: ${known.definition.label}; ` +
          `give ${definition.label} a group of its own`,
      );
    }
    const record: ConsumerRecord = {
      definition,
      counters: new ConsumerCounters(),
      calls: new Calls(this.clock),
      workers: new Workers(definition.workers),
      notes: new NoteWriter(),
      runs: this.get({ ...definition.key, partition: 0 })?.runs ?? new HandlerRuns(),
      initialised: false,
      runsAtOnce: false,
      registrationFailed: false,
      removed: false,
    };
    this.records.set(id, record);
    const { stream } = definition.key;
    this.byStream.set(stream, (this.byStream.get(stream) ?? new Set()).add(record));
    return record;
  }

  /** Those of all its partitions. */
  ofGroup({ stream, group }: GroupKey): readonly ConsumerRecord[] {
    return [...this.of(stream)].filter(({ definition: { key } }) => key.group === group);
  }

  get(key: ConsumerKey): ConsumerRecord | undefined {
    return this.records.get(consumerId(key));
  }

  /** Forgets it, unless another one has its place. */
  delete(record: ConsumerRecord): void {
    const { key } = record.definition;
    const id = consumerId(key);
    if (this.records.get(id) === record) this.records.delete(id);
    const others = this.byStream.get(key.stream);
    others?.delete(record);
    if (others?.size === 0) this.byStream.delete(key.stream);
  }

  /** Those of one stream: what happens on a stream costs nothing for the others. */
  of(stream: string): Iterable<ConsumerRecord> {
    return this.byStream.get(stream) ?? NONE;
  }

  /** True if this process holds a lease of the stream. */
  isConsumed(stream: string): boolean {
    for (const { current } of this.of(stream)) if (current) return true;
    return false;
  }

  all(): readonly ConsumerRecord[] {
    return [...this.records.values()];
  }

  /** Those whose lease this process holds. */
  active(): readonly ActiveConsumer[] {
    return this.all().filter((record): record is ActiveConsumer => record.current !== undefined);
  }

  /** Streams that are consumed here, if this process gets their leases. */
  streams(): readonly string[] {
    return [...this.byStream.keys()];
  }

  /** Streams of which this process holds a lease. */
  activeStreams(): readonly string[] {
    return [...new Set(this.active().map(({ definition }) => definition.key.stream))];
  }
}
