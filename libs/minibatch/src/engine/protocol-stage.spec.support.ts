import type { MemoryDatabase } from '../storage/memory/memory.database.js';
import { applyEffects } from '../storage/memory/state.js';
import type { Commit, Effects, Lease, StreamStore } from '../storage/stream-store.interface.js';
import { wrapStore } from '../testing/wrapped-store.js';
import type { Window } from '../windows/window.js';
import type { Stage, StageChanges } from './engine.interface.js';

export const values: Stage['values'] = {
  encode: (value) => Buffer.from(JSON.stringify(value)),
  decode: (bytes) => JSON.parse(Buffer.from(bytes).toString()) as unknown,
};

/** The stream that the stage of a group appends to. */
export const outOf = (group: string) => `out-${group}`;

/** What the stage remembers of messages with one remainder. */
interface Chain {
  /** Those since the row was made. */
  readonly seen: readonly number[];
}

const slotOf = (value: number) => `key-${value % 3}`;

/**
 * Appends each message with those of its key before it, so that a message that counts twice, or not at all, shows in all that come after.
 * The row of a key goes with every fourth message of it.
 */
export async function chain(group: string, window: Window, changes: StageChanges): Promise<void> {
  const data = window.data as readonly number[];
  await changes.load(data.map(slotOf));
  for (const value of data) {
    const slot = slotOf(value);
    const { seen } = (changes.get(slot) as Chain | undefined) ?? { seen: [] };
    const next = [...seen, value];
    changes.append({ stream: outOf(group), data: next, created: new Date(0) });
    if (next.length === 4) changes.remove(slot);
    else changes.put(slot, { seen: next }, value);
  }
}

/** What `chain` comes to for these messages, handled in this order. */
export function chained(data: readonly number[]): {
  readonly outputs: number[][];
  readonly rows: Record<string, Chain>;
} {
  const outputs: number[][] = [];
  const rows = new Map<string, Chain>();
  for (const value of data) {
    const next = [...(rows.get(slotOf(value))?.seen ?? []), value];
    outputs.push(next);
    if (next.length === 4) rows.delete(slotOf(value));
    else rows.set(slotOf(value), { seen: next });
  }
  return { outputs, rows: Object.fromEntries(rows) };
}

/** Faults of a store that applies effects late. */
export interface LateFault {
  /** Only the process that has committed them applies effects. */
  readonly forgetsOthers?: true;
  /** Messages are appended without their ids. */
  readonly withoutIds?: true;
}

interface Recorded {
  readonly fence: number;
  readonly effects: Effects;
}

/**
 * Makes the memory store apply effects as a database without transactions does: the commit point only records them, and `settle` applies
 * them, also for the next holder.
 */
export class LateEffects {
  /** By consumer and number of the window. */
  private readonly recorded = new Map<string, Recorded>();

  constructor(
    private readonly database: MemoryDatabase,
    private readonly fault: LateFault = {},
  ) {}

  wrap(store: StreamStore): StreamStore {
    return wrapStore(store, async (call) => {
      if (call.method === 'commit') {
        const [lease, { effects, ...point }, asked] = call.args as Parameters<StreamStore['commit']>;
        const groups = await store.commit(lease, point, asked);
        this.record(lease, effects);
        return groups;
      }
      if (call.method === 'settle') {
        const [lease, windows] = call.args as Parameters<StreamStore['settle']>;
        this.apply(lease, windows);
      }
      return call.proceed();
    });
  }

  private record(lease: Lease, effects: Commit['effects']): void {
    for (const [seq, each] of effects ?? []) {
      this.recorded.set(nameOf(lease, seq), { fence: lease.fence, effects: this.faulty(each) });
    }
  }

  private apply(lease: Lease, windows: Parameters<StreamStore['settle']>[1]): void {
    const consumer = this.database.streams.get(lease.key.stream)?.consumer(lease.key);
    // It may be another's by now, who has gone on from there.
    if (!consumer || consumer.fence !== lease.fence) return;
    for (const { window } of windows) {
      const recorded = this.recorded.get(nameOf(lease, window.seq));
      if (!recorded || (this.fault.forgetsOthers && recorded.fence !== lease.fence)) continue;
      // Applied again when a call is repeated: only the ids of what is appended tell that.
      applyEffects(this.database, { ...consumer, finished: [] }, new Map([[window.seq, recorded.effects]]));
    }
  }

  private faulty(effects: Effects): Effects {
    if (!this.fault.withoutIds || !effects.append) return effects;
    return { ...effects, append: effects.append.map(({ dedupeId: _, ...message }) => message) };
  }
}

function nameOf({ key }: Lease, seq: number): string {
  return `${key.group}/${seq}`;
}
