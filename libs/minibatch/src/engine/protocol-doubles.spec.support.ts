import type { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { StreamStore } from '../storage/stream-store.interface.js';
import type { StoreCall } from '../testing/wrapped-store.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { type MessageView, WindowEmitter } from '../windows/window-emitter.js';
import type { Window } from '../windows/window.js';
import type { Process } from './process.spec.support.js';
import type { LateFault } from './protocol-stage.spec.support.js';

/** Fewer polls than the real one has: a simulated second is not to cost more than it must. */
export class Store extends MemoryStreamStore {
  override readonly polling = { busy: 400, idle: 2_000 };

  constructor(
    database: MemoryDatabase,
    override readonly totalOrder: boolean,
  ) {
    super(database);
  }
}

/** More timers than any slice of time takes. */
const MOST_TIMERS = 5_000;

/** Counts timers, to see loops that never rest. Such a loop gets no more timers, so that its plan ends and can be named. */
export class CountingClock extends VirtualClock {
  scheduled = 0;

  override schedule(ms: number, callback: () => void): () => void {
    this.scheduled += 1;
    return this.scheduled > MOST_TIMERS ? () => undefined : super.schedule(ms, callback);
  }

  override async advance(ms: number): Promise<void> {
    this.scheduled = 0;
    await super.advance(ms);
  }
}

/** A fault under test, planted between the engine and the rest. */
export interface Planted {
  /** Of each process's way to the database. */
  readonly store?: (store: StreamStore, database: MemoryDatabase) => StreamStore;
  /** The handler runs on, and its window counts as handled at once. */
  readonly hastyHandler?: boolean;
  /** Of a store that applies effects late. */
  readonly late?: LateFault;
}

/** A process of a plan, and what is done to it. */
export interface Slot {
  process?: Process & { readonly clock: CountingClock };
  asleep: boolean;
  outage?: { readonly when: 'before' | 'after'; calls: number };
  hold?: StoreCall['method'];
  /** Calls on their way, which reach the database when these are called. */
  held: (() => void)[];
  /** Handlers that hang. */
  hanging: (() => void)[];
  /** Windows through their handlers and sinks. */
  finished: Set<string>;
  running: Map<string, Set<Window>>;
}

export function emptySlot(): Slot {
  return { asleep: false, held: [], hanging: [], finished: new Set(), running: new Map() };
}

/** Takes the even ones first, and what is old, in reverse; drops every seventh. */
export class Own extends WindowEmitter<number> {
  private pick(view: MessageView<number>) {
    const due = view.saturated || view.messages.some(({ seen }) => Math.abs(view.now - seen) >= 3_000);
    const drop = view.messages.filter(({ data }) => data % 7 === 0);
    const rest = view.messages.filter(({ data }) => data % 7 !== 0 && (due || data % 2 === 0));
    return { take: rest.slice(0, 3).toReversed(), drop };
  }
  windowReady(view: MessageView<number>): boolean {
    const { take, drop } = this.pick(view);
    return (
      take.length >= 2 || drop.length > 0 || (take.length > 0 && view.messages.some((m) => view.now - m.seen >= 3_000))
    );
  }
  query(view: MessageView<number>) {
    return this.pick(view);
  }
  override nextCheck(view: MessageView<number>): number | undefined {
    return view.first && Math.max(view.now + 1_000, view.first.seen + 3_000);
  }
}
