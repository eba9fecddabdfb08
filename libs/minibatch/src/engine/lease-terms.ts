import { stackOf } from '../errors/error-text.js';
import { ErrorCode, messageOf } from '../errors/minibatch.error.js';
import type { ConsumerKey, Lease, LeaseOwner } from '../storage/stream-store.interface.js';
import { ConsumerLoop } from './consumer-loop.js';
import type { ConsumerRecord, ConsumerRecords } from './consumer-records.js';
import type { ConsumerRegistration } from './consumer-registration.js';
import type { LeaseListener } from './lease-keeper.js';
import type { LeaseRounds } from './lease-rounds.js';
import { type EngineParts, LeaseTerm } from './lease-term.js';
import type { StreamControl } from './stream-control.js';

/** Begins a lease term, with a loop, for each lease that this process acquires, and ends it when the lease is lost. */
export class LeaseTerms implements LeaseListener {
  constructor(
    private readonly records: ConsumerRecords,
    private readonly parts: EngineParts,
    private readonly registration: ConsumerRegistration,
    private readonly control: StreamControl,
    private readonly rounds: LeaseRounds,
    /** Aborts when the engine is stopping. */
    private readonly stopping: AbortSignal,
    /** Called when another set of consumers is active than before. */
    private readonly changed: () => void,
  ) {}

  acquired(key: ConsumerKey, lease: Lease, clean: boolean): void {
    const record = this.records.get(key);
    // The lease is given back when it leaves.
    if (!record || record.removed || this.stopping.aborted) return;
    this.control.began(record);
    const { definition, counters, calls, workers } = record;
    const term = new LeaseTerm(definition, lease, clean, counters, this.parts, calls, workers);
    const loop = new ConsumerLoop(term);
    const done = this.run(record, term, loop);
    record.current = { term, loop, done };
    this.changed();
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
      ? `another process took over; its ${left} open windows continue there`
      : `its lease was taken away, with ${left} open windows: group '${key.group}' was removed, or replaced by another one`;
    this.parts.log.warn(`${definition.label}: ${what} [${ErrorCode.LeaseLost}]`);
    delete record.left;
  }

  /** The stream was dropped, or the database: what tests of applications do between them. */
  missing(key: ConsumerKey): void {
    const record = this.records.get(key);
    if (!record || record.removed || this.stopping.aborted) return;
    delete record.left;
    this.parts.log.warn(
      `${record.definition.label}: group '${key.group}' of stream '${key.stream}' has gone from the store, which was dropped; ` +
        'registering it again',
    );
    this.registration.registerInBackground(record);
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
    if (!this.stopping.aborted && record.current?.term === term) {
      delete record.current;
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
