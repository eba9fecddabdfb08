import { MergeFailed } from './aggregate-content.js';
import { ChunkWriter, type ContentKind, type Held } from './content.js';
import type { FailedItem, FiredWindow, LateItem, StateView, Step, Taken, TimedItem } from './window-logic.js';

/** What a window is, beside what is in it. */
export type WindowFacts = Omit<FiredWindow, 'value' | 'failed' | 'parts' | 'content' | 'release'>;

/** What one call to a logic has come to so far. */
export class Call {
  readonly fired: FiredWindow[] = [];
  readonly late: LateItem[] = [];
  readonly failed: FailedItem[] = [];
  /** Items that it has to do without: then it is made once more. */
  readonly tooLarge: FailedItem[] = [];
  readonly chunks: ChunkWriter;
  lateTaken = 0;
  private readonly isLight: boolean;

  constructor(
    step: Step,
    /** @default the logic makes its windows itself */
    private readonly content?: ContentKind,
  ) {
    this.chunks = new ChunkWriter(step.state, step.number);
    this.isLight = step.isLight === true;
  }

  get taken(): Taken {
    const { fired, late, lateTaken, failed } = this;
    return { fired, late, lateTaken, failed };
  }

  /** Before it is stored. */
  finish(held: Held): void {
    this.tooLarge.push(...(this.content?.finish(held, this.chunks, this.isLight) ?? []));
  }

  /** A window with what is in it. A function of the application that throws makes it a failed one, and holds up no other. */
  fire(facts: WindowFacts, make: () => Held, release: (held: Held) => readonly string[] = () => [], skip = 0): void {
    let held: Held;
    try {
      held = make();
    } catch (error) {
      this.fired.push({ ...facts, ...failureOf(error) });
      return;
    }
    this.content?.seal(held, this.chunks);
    const rows = release(held);
    const given = this.content?.given(held) ?? {};
    const content =
      given.content && skip > 0 ? { ...given.content, skip, count: given.content.count - skip } : given.content;
    this.fired.push({ ...facts, ...given, ...(content && { content }), ...(rows.length > 0 && { release: rows }) });
  }

  /** With the window that was fired last, if it is of this key; otherwise by itself. */
  releaseWithLast(key: string, rows: readonly string[], wasFired: boolean): void {
    const last = this.fired.at(-1);
    if (!wasFired || !last) this.release(key, rows);
    else if (rows.length > 0) this.fired.splice(-1, 1, { ...last, release: rows });
  }

  /** Rows of messages that were in all their windows before. */
  release(key: string, rows: readonly string[]): void {
    if (rows.length === 0) return;
    this.fired.push({ key, revision: 0, late: false, partial: false, silent: true, release: rows });
  }
}

/**
 * Takes a batch. Items that make an accumulator too large are known at the end only: then all is done once more without them, so that
 * nothing is as if they had come.
 *
 * @param attempt puts the items into rows that are not stored yet @returns how to store them
 */
export function takeWithout(
  items: readonly TimedItem[],
  makeCall: () => Call,
  attempt: (items: readonly TimedItem[], call: Call) => () => void,
): Taken {
  const failed: FailedItem[] = [];
  for (let left = items; ;) {
    const call = makeCall();
    const save = attempt(left, call);
    if (call.tooLarge.length === 0) {
      save();
      return { ...call.taken, failed: [...failed, ...call.failed] };
    }
    failed.push(...call.tooLarge);
    const without = new Set(call.tooLarge.map(({ item }) => item.id));
    left = left.filter(({ id }) => !without.has(id));
  }
}

/** Puts each item where it belongs; one at which a function throws fails alone. */
export function putEach(items: readonly TimedItem[], call: Call, put: (item: TimedItem) => void): void {
  for (const item of items) {
    try {
      put(item);
    } catch (error) {
      call.failed.push({ item, error: failureOf(error).failed });
    }
  }
}

function failureOf(error: unknown): Pick<FiredWindow, 'failed' | 'parts'> {
  return error instanceof MergeFailed ? { failed: error.cause, parts: error.parts } : { failed: error };
}

/** How rows of one kind are stored. */
export interface RowShape<R> {
  decode(value: unknown): R;
  /** @param due undefined: it is not fired by time */
  encode(row: R): { readonly value: unknown; readonly due?: number | undefined };
}

/** Rows of one kind that a call works on. They are stored when it ends. */
export class Drafts<R> {
  private readonly open = new Map<string, R | undefined>();
  private readonly changed = new Set<string>();

  constructor(
    private readonly state: StateView,
    private readonly shape: RowShape<R>,
  ) {}

  get(slot: string): R | undefined {
    if (!this.open.has(slot)) {
      const value = this.state.get(slot);
      this.open.set(slot, value === undefined ? undefined : this.shape.decode(value));
    }
    return this.open.get(slot);
  }

  /** A row that was made, or changed. */
  put(slot: string, row: R): void {
    this.open.set(slot, row);
    this.changed.add(slot);
  }

  remove(slot: string): void {
    this.open.set(slot, undefined);
    this.changed.add(slot);
  }

  /** Those that were put, with their slots. */
  *entries(): Iterable<readonly [slot: string, row: R]> {
    for (const slot of this.changed) {
      const row = this.open.get(slot);
      if (row !== undefined) yield [slot, row];
    }
  }

  save(): void {
    for (const slot of this.changed) {
      const row = this.open.get(slot);
      if (row === undefined) this.state.remove(slot);
      else {
        const { value, due } = this.shape.encode(row);
        this.state.put(slot, value, due);
      }
    }
  }
}
