import { stackOf } from '../errors/error-text.js';
import { ErrorCode, messageOf } from '../errors/minibatch.error.js';
import { delay } from '../common/clock.js';
import type { ConsumerKey, Lease, LeaseOwner } from '../storage/stream-store.interface.js';
import { ConsumerLoop } from './consumer-loop.js';
import type { ActiveConsumer, ConsumerRecord, ConsumerRecords, CurrentTerm } from './consumer-records.js';
import type { ConsumerStatus } from './engine.interface.js';
import type { ConsumerRegistration } from './consumer-registration.js';
import type { LeaseListener } from './lease-watch.js';
import type { LeaseRounds } from './lease-rounds.js';
import { type EngineParts, LeaseTerm } from './lease-term.js';
import { describePendingWork } from './pending-work.js';
import type { StreamControl } from './stream-control.js';
import type { Standing } from './standing.js';
import type { WaitingConsumers } from './waiting-consumers.js';
import { counted } from '../common/counted.js';

/** Begins a lease term, with a loop, for each lease that this process acquires, and ends it when the lease is lost. */
export class LeaseTerms implements LeaseListener {
  constructor(
    private readonly records: ConsumerRecords,
    private readonly waiting: WaitingConsumers,
    private readonly parts: EngineParts,
    private readonly registration: ConsumerRegistration,
    private readonly control: StreamControl,
    private readonly rounds: LeaseRounds,
    /** Aborts when the engine is stopping. */
    private readonly stopping: AbortSignal,
    /** Called when another set of consumers is active than before. */
    private readonly changed: () => void,
    private readonly status: (record: ConsumerRecord) => ConsumerStatus,
  ) {}

  acquired(key: ConsumerKey, lease: Lease, clean: boolean): void {
    const record = this.records.get(key);
    // The lease is given back when it leaves.
    if (!record || record.removed || this.stopping.aborted) return;
    delete record.heir;
    this.control.began(record);
    const { definition, counters, calls, workers, runs } = record;
    const term = new LeaseTerm(definition, lease, clean, counters, this.parts, calls, workers, runs);
    this.share(key, term);
    const loop = new ConsumerLoop(term, (standing) => this.stands(record, term, standing));
    const done = this.run(record, term, loop);
    record.current = { term, loop, done };
    this.changed();
  }

  /** The partitions of a consumer share what it may read ahead. */
  private share(key: ConsumerKey, begins?: LeaseTerm): void {
    if (this.parts.partitions(key.stream) === 1) return;
    const terms = this.records.ofGroup(key).flatMap(({ current }) => current?.term ?? []);
    if (begins) terms.push(begins);
    for (const term of terms) term.share = terms.length;
  }

  /** A term that is over may overlap with the next one. */
  private stands(record: ConsumerRecord, term: LeaseTerm, standing: Standing): void {
    if (record.current?.term === term) this.waiting.stands(record as ActiveConsumer, standing);
  }

  lost(key: ConsumerKey): void {
    const record = this.records.get(key);
    const current = record?.current;
    if (!record || !current || current.term.isOver) return;
    record.left = current.loop.inFlight;
    current.term.end();
    // The next round sees who has it now.
    this.rounds.hurry();
  }

  wentTo(key: ConsumerKey, other: LeaseOwner | undefined): void {
    const record = this.records.get(key);
    if (record?.left === undefined) return;
    const { definition, left } = record;
    const what = other
      ? `another process took over and continues with ${counted(left, 'open window')}`
      : `its lease was taken away, with ${counted(left, 'open window')}: group '${key.group}' was removed, or replaced by another one`;
    this.parts.log.warn(`${definition.label}: ${what} [${ErrorCode.LeaseLost}]`);
    delete record.left;
  }

  /** The stream was dropped, or the database: what tests of applications do between them. */
  missing(key: ConsumerKey): void {
    const record = this.records.get(key);
    if (!record || record.removed || this.stopping.aborted) return;
    delete record.left;
    if (record.definition.dropped) {
      record.definition.dropped();
      return;
    }
    this.parts.log.warn(
      `${record.definition.label}: group '${key.group}' of stream '${key.stream}' is gone from the store, which was dropped; ` +
        'registering it again',
    );
    this.registration.registerInBackground(record);
  }

  wanted(key: ConsumerKey, lease: Lease, heir: LeaseOwner | undefined): void {
    const record = this.records.get(key);
    const current = record?.current;
    if (!record || current?.term.lease.fence !== lease.fence || record.removed || this.stopping.aborted) return;
    if (!heir) {
      delete record.heir;
      return;
    }
    const { host, pid } = heir;
    if (record.heir?.host !== host || record.heir.pid !== pid) {
      record.heir = { host, pid, since: new Date(this.parts.clock.now()) };
    }
    // It would have to wait until the sink takes its result: meanwhile the consumer may as well go on.
    if (current.term.isClosing || current.loop.blockedSinks.length > 0) return;
    void this.handOver(record, current);
  }

  note(key: ConsumerKey, { fence }: Lease): string | undefined {
    const record = this.records.get(key);
    return record?.current && record.notes.write(this.status(record), fence, this.parts.clock.now());
  }

  overfull(held: number): void {
    const { maxLeases } = this.parts.options;
    this.parts.log.warn(
      `This process holds ${counted(held, 'lease')}, more than maxLeases (${maxLeases}), because no other process takes them: ` +
        'start more processes, or raise maxLeases',
    );
  }

  /** What runs is finished and committed; then the lease is released. Nothing is cut off. */
  private async handOver(record: ConsumerRecord, current: CurrentTerm): Promise<void> {
    const { activity, keeper, log } = this.parts;
    const { term, done } = current;
    const drained = new AbortController();
    void this.reportSlowHandOver(record, current, drained.signal);
    term.close();
    await done;
    drained.abort();
    // A consumer that is stopped gives its lease back itself.
    if (record.removed || this.stopping.aborted) return;
    try {
      await activity.track(() => keeper.handOver(term.lease));
      // From now on it is watched, and taken if nobody asks for it any more.
      this.rounds.hurry();
    } catch (error) {
      log.warn(`${term.definition.label}: could not hand its lease over; it expires on its own: ${messageOf(error)}`);
    }
  }

  private async reportSlowHandOver(record: ConsumerRecord, current: CurrentTerm, drained: AbortSignal): Promise<void> {
    const { clock, log, options } = this.parts;
    await delay(clock, options.handover, drained);
    const pending = describePendingWork([current]);
    if (drained.aborted || this.stopping.aborted || !record.heir || pending === undefined) return;
    const { host, pid } = record.heir;
    log.warn(
      `Handing over to process ${pid} on ${host} takes longer than ${options.handover} ms (handover), waiting for ${pending}. ` +
        'Nothing is cut off, and no new window begins here: let the method return soon after window.closing aborts, make its windows ' +
        'smaller, or limit it with retry.timeout',
    );
  }

  private async run(record: ConsumerRecord, term: LeaseTerm, loop: ConsumerLoop): Promise<void> {
    try {
      const { stream } = term.definition.key;
      await this.parts.activity.track(() => term.persist('read the stream', () => this.control.refresh([stream])));
      await loop.run();
    } catch (error) {
      if (!term.isOver) this.failed(record, term, error);
    }
    record.initialised ||= loop.initialised;
    if (record.current?.term === term) this.waiting.left(record as ActiveConsumer);
    if (!this.stopping.aborted && record.current?.term === term) {
      delete record.current;
      this.share(term.definition.key);
      this.control.ended(record);
      this.changed();
    }
  }

  private failed({ definition, counters }: ConsumerRecord, term: LeaseTerm, error: unknown): void {
    const { clock, keeper, log } = this.parts;
    counters.failed(clock.now(), error, ErrorCode.EmitterFailed);
    log.error(`${definition.label} failed and will be restarted: ${messageOf(error)}`, stackOf(error));
    term.end();
    // The lease is kept, unused, and expires: another process may succeed, and this one retries.
    keeper.drop(term.lease);
  }
}
