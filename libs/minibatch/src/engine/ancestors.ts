import { delay } from '../common/clock.js';
import { type Ancestor, ancestorsOf } from '../storage/partitions.js';
import type { Growth, MessageId } from '../storage/stream-store.interface.js';
import type { LeaseTerm } from './lease-term.js';

/** How often it is looked whether earlier messages are left; milliseconds. */
const LOOK_EVERY = 1_000;
/** Order of append and order of creation differ by less than this; milliseconds. */
const DISORDER = 60_000;
const FIRST = { messages: 1, bytes: 1, aside: true } as const;
const PAGE = { messages: 100, bytes: 1024 * 1024, aside: true } as const;

/**
 * Holds back a partition that was added to a stream, until the group has committed the messages of its keys that were appended before: they
 * are in other partitions, its ancestors.
 */
export class Ancestors {
  private waiting: readonly Ancestor[] = [];
  private isKnown = false;

  constructor(
    private readonly term: LeaseTerm,
    /** Called when nothing holds the partition back any more. */
    private readonly released: () => void,
  ) {}

  /** The partition that the messages are in which have to be handled first. */
  get holdingBack(): number | undefined {
    return this.waiting[0]?.partition;
  }

  /** The partition is held back until then at least, if it is held back; by the system's clock. */
  get until(): Date | undefined {
    const [ancestor] = this.waiting;
    return ancestor && new Date(ancestor.before.getTime() + this.term.parts.options.leaseTime);
  }

  /** How the stream has grown. What is added later does not concern a partition that is there. */
  follow(growths: readonly Growth[]): void {
    if (this.isKnown) return;
    this.isKnown = true;
    this.waiting = ancestorsOf(this.term.definition.key.partition, growths);
    if (this.waiting.length > 0) void this.wait();
  }

  private async wait(): Promise<void> {
    const { term } = this;
    const { clock } = term.parts;
    while (!term.isOver) {
      const [ancestor] = this.waiting;
      if (!ancestor) return this.released();
      // By then what was on its way to the ancestor has arrived.
      const rest = (this.until?.getTime() ?? 0) - clock.now();
      if (rest <= 0 && !(await this.hasEarlier(ancestor))) this.waiting = this.waiting.slice(1);
      else await delay(clock, rest > 0 ? Math.min(rest, LOOK_EVERY) : LOOK_EVERY, term.closing);
      if (term.isClosing) return;
    }
  }

  /** Resolves with true if the store does not tell: then the term is over. */
  private async hasEarlier(ancestor: Ancestor): Promise<boolean> {
    const { activity } = this.term.parts;
    const look = () => this.term.persist('look for earlier messages', () => this.find(ancestor));
    return activity.track(look).catch(() => true);
  }

  /** The first message mostly answers it. */
  private async find({ partition, before }: Ancestor): Promise<boolean> {
    const { definition, parts } = this.term;
    const end = before.getTime() + DISORDER;
    let after: MessageId | undefined;
    for (;;) {
      const limits = after === undefined ? FIRST : PAGE;
      const { messages, damaged = [], full } = await parts.store.fetch({ ...definition.key, partition }, after, limits);
      for (const { created, redriven, cleared } of messages) {
        if (created.getTime() >= end) return false;
        // What was put back comes after everything else anyway.
        if (created < before && !redriven && !cleared) return true;
      }
      after = [messages.at(-1)?.id, ...damaged].reduce(
        (last, id) => (last === undefined || (id ?? '') > last ? id : last),
        after,
      );
      if (!full || after === undefined) return false;
    }
  }
}
