import type { StateRow, StoredMessage, WindowRecord } from '../storage/stream-store.interface.js';
import { windowId } from '../windows/window-id.js';
import type { RowWindow, Stage } from './engine.interface.js';
import { type FiredRange, numberOfFired, QUEUE, slotOfFired } from './fired-slots.js';
import { type InFlightWindow, inFlightWindow, type OfRows, WindowState } from './in-flight-window.js';
import type { InFlightWindows } from './in-flight-windows.js';
import type { LeaseTerm } from './lease-term.js';
import type { PassScheduler } from './pass-scheduler.js';
import type { StageState } from './stage-state.js';
import type { StageEffects } from './state-changes.js';

/** Fired windows that are looked at for one claim. */
const PAGE = 500;
/** Claimed windows that wait for a worker, at the most, */
const MOST_WAITING = 2_000;
/** and those that wait behind another one of their lane. */
const MOST_BEHIND = 20_000;
/** With so many fired windows that are not claimed, nothing more is read: the handler does not keep up. */
const BACKLOG = 2_000;

/**
 * Windows that a stage has fired, on their way to the handler. The stage's commit puts a row for each; here they are claimed in the order
 * of their numbers, with the name of that row. From then on nothing changes what is in them, and their own commit removes the row.
 *
 * ```text
 * stage ──fire──▶ row f/7 ──its commit──▶ claimed: WindowRecord { slots: ['f/7'] } ──handler, sinks──▶ commit: without f/7
 * ```
 *
 * Rows of messages may be in several windows. The last of them names them in `release`, and they go when no open window needs them.
 */
export class RowWindows {
  /** Number of the next window to be claimed. */
  private next = 0;
  /** Windows before this number are in the store. */
  private end = 0;
  /** Claimed by earlier holders. */
  private readonly taken = new Set<number>();
  private isInFlight = false;
  /** Open windows by the rows of messages that they need. */
  private readonly uses = new Map<string, number>();
  /** Rows that go with the last of them. */
  private readonly released = new Set<string>();
  private readonly state: StageState;

  constructor(
    private readonly term: LeaseTerm,
    private readonly stage: Stage & Required<Pick<Stage, 'open'>>,
    private readonly windows: InFlightWindows,
    private readonly takeSeq: () => number,
    private readonly passes: PassScheduler,
  ) {
    this.state = term.state!;
  }

  get isClaiming(): boolean {
    return this.isInFlight;
  }

  /** Windows are fired and not claimed. */
  get hasMore(): boolean {
    return this.next < this.end;
  }

  /** The handler does not keep up: nothing more is to be put into windows. */
  get isBacklogged(): boolean {
    return this.end - this.next >= BACKLOG;
  }

  /** A window of the stage has left: those that it has fired are in the store. */
  left({ effects }: InFlightWindow): void {
    this.end = Math.max(this.end, effects?.firedTo ?? 0);
  }

  /** Claims fired windows, as many as there is room for. */
  claimReady(): void {
    if (this.isInFlight || !this.hasMore || this.isFull) return;
    this.isInFlight = true;
    this.passes.startTask(async () => {
      try {
        const opened = await this.claim(this.end, this.room);
        for (const open of opened) this.windows.transition(open, WindowState.Ready);
      } finally {
        this.isInFlight = false;
      }
    });
  }

  private get room(): number {
    return this.term.parts.options.readAhead - this.windows.readAhead.messages;
  }

  private get isFull(): boolean {
    const { windows, term } = this;
    return (
      this.room <= 0 ||
      windows.readAhead.bytes >= term.readAheadBytes ||
      windows.in(WindowState.Ready).windows - windows.behind.windows >= MOST_WAITING ||
      windows.behind.windows >= MOST_BEHIND
    );
  }

  // ---- takeover

  /** A window that an earlier holder had claimed, with its messages. */
  async reopen(record: WindowRecord, suspect: boolean, inherited: boolean): Promise<InFlightWindow> {
    const [slot = ''] = record.slots ?? [];
    const number = numberOfFired(slot);
    this.taken.add(number);
    const fired = await this.rowsOf([slot]);
    const window = fired.get(slot) as RowWindow | undefined;
    if (!window) {
      this.term.counters.vanished += record.messageIds.length;
      this.term.parts.log.warn(
        `${this.term.definition.label}: the messages of window ${record.id} vanished from the store; something other than this module removed them`,
      );
      return inFlightWindow(record, [], suspect, inherited);
    }
    const messages = this.messagesOf(window, await this.rowsOf(window.rows));
    return this.opened({ number, window }, record, messages, suspect, inherited);
  }

  /**
   * Goes on where the holder before has stopped. A claim that it did not live to see answered may be there in part: what is missing is claimed
   * before anything runs, so that each key keeps its order.
   *
   * @param recovered by `seq` @returns all that are open, in the order in which they are to be handled
   */
  async resume(recovered: readonly InFlightWindow[]): Promise<readonly InFlightWindow[]> {
    const range = (await this.rowsOf([QUEUE])).get(QUEUE) as FiredRange | undefined;
    this.next = range?.from ?? 0;
    this.end = range?.to ?? 0;
    this.state.firstFired = this.next;
    const last = [...this.taken].reduce((a, b) => Math.max(a, b), -1);
    const missing: InFlightWindow[] = [];
    while (this.next <= last) missing.push(...(await this.claim(last + 1, Infinity)));
    const numberOf = ({ ofRows }: InFlightWindow) => ofRows?.number ?? -1;
    return [...recovered, ...missing].sort((a, b) => numberOf(a) - numberOf(b) || a.record.seq - b.record.seq);
  }

  // ---- claims

  /** @param room messages of the windows; one is claimed at least */
  private async claim(end: number, room: number): Promise<readonly InFlightWindow[]> {
    const { term } = this;
    const { lease, parts } = term;
    const fired = await this.fired(end, room);
    const rows = await this.rowsOf(fired.windows.flatMap(({ window }) => window.rows));
    const now = new Date(parts.clock.now());
    const opened = fired.windows.map((each) => {
      const messages = this.messagesOf(each.window, rows);
      return this.opened(each, this.recordOf(each, messages, now), messages);
    });
    if (opened.length > 0) {
      const records = opened.map(({ record }) => record);
      for (const open of opened) this.windows.add(open);
      await term.persist('claim', () => parts.store.claim(lease, records));
    }
    this.next = fired.next;
    this.state.firstFired = fired.next;
    for (const number of this.taken) if (number < this.next) this.taken.delete(number);
    return opened;
  }

  /** The next windows that are there and not claimed. */
  private async fired(end: number, room: number) {
    const numbers: number[] = [];
    let next = this.next;
    for (; next < end && numbers.length < PAGE; next += 1) if (!this.taken.has(next)) numbers.push(next);
    const rows = await this.rowsOf(numbers.map(slotOfFired));
    const windows: { readonly number: number; readonly window: RowWindow }[] = [];
    let messages = 0;
    let bytes = 0;
    for (const number of numbers) {
      // Those that are not there have been handled.
      const window = rows.get(slotOfFired(number)) as RowWindow | undefined;
      if (!window) continue;
      messages += window.size.messages;
      bytes += window.size.bytes;
      if (windows.length > 0 && (messages > room || bytes > this.term.readAheadBytes)) return { windows, next: number };
      windows.push({ number, window });
    }
    return { windows, next };
  }

  private recordOf(
    { number, window }: { readonly number: number; readonly window: RowWindow },
    messages: readonly StoredMessage[],
    created: Date,
  ): WindowRecord {
    const { stream, group, partition } = this.term.definition.key;
    const messageIds = messages.map(({ id }) => id);
    const bounds = boundsOf(window);
    return {
      seq: this.takeSeq(),
      id: windowId(stream, group, partition, messageIds, bounds, window.name),
      messageIds,
      created,
      attempt: 1,
      recoveries: 0,
      ...bounds,
      ...(window.key !== undefined && { key: window.key }),
      slots: [slotOfFired(number)],
    };
  }

  private opened(
    { number, window }: { readonly number: number; readonly window: RowWindow },
    record: WindowRecord,
    messages: readonly StoredMessage[],
    suspect = false,
    inherited = suspect,
  ): InFlightWindow {
    const open = inFlightWindow(record, messages, suspect, inherited);
    const { name, lane, key, partial = false, revision = 0, silent = false, rows } = window;
    for (const slot of rows) this.uses.set(slot, (this.uses.get(slot) ?? 0) + 1);
    open.ofRows = {
      ...{ number, name, lane, isSilent: silent },
      facts: { ...boundsOf(window), ...(key !== undefined && { key }), partial, revision },
      finish: () => this.finish(number, window),
    } satisfies OfRows;
    return open;
  }

  private finish(number: number, { rows, release }: RowWindow): StageEffects {
    for (const slot of release) this.released.add(slot);
    for (const slot of rows) {
      const uses = (this.uses.get(slot) ?? 1) - 1;
      if (uses > 0) this.uses.set(slot, uses);
      else this.uses.delete(slot);
    }
    const remove = [slotOfFired(number)];
    for (const slot of new Set([...rows, ...release])) {
      if (this.uses.has(slot) || !this.released.delete(slot)) continue;
      remove.push(slot);
    }
    const effects = { remove };
    this.state.apply(effects);
    return { effects, bytes: remove.reduce((sum, slot) => sum + slot.length, 0), dropped: 0, through: () => undefined };
  }

  // ---- rows

  private messagesOf(window: RowWindow, rows: ReadonlyMap<string, unknown>): readonly StoredMessage[] {
    return window.silent ? [] : this.stage.open(window.content, rows);
  }

  /** Values of the rows that are there. */
  private async rowsOf(slots: readonly string[]): Promise<ReadonlyMap<string, unknown>> {
    const values = new Map<string, unknown>();
    for (const [slot, row] of await this.state.load(slots)) if (row) values.set(slot, this.valueOf(row));
    return values;
  }

  private valueOf({ value }: StateRow): unknown {
    return this.stage.values.decode(value);
  }
}

function boundsOf({ start, end, part, late }: RowWindow) {
  return {
    ...(start !== undefined && { start: new Date(start) }),
    ...(end !== undefined && { end: new Date(end) }),
    ...(part !== undefined && { part }),
    ...(late && { late }),
  };
}
