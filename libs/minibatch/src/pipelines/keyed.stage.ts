import { show } from '../common/checks.js';
import type { Mutable } from '../common/mutable.js';
import type { ResolvedKeyed } from '../consumers/keyed.resolve.js';
import type { RowWindow, Stage, StageChanges } from '../engine/engine.interface.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { type Chunk, type CollectedMessage, partsOf } from '../flow/collect-content.js';
import { readerOf } from '../flow/field-or-function.js';
import { keyOf, slotOf } from '../flow/slot.js';
import { timeOf } from '../flow/watermark.js';
import type { FiredWindow, Item, LateItem, WindowContent } from '../flow/window-logic.js';
import { ContentMessage, contentOf } from '../storage/content-message.js';
import type { StoredMessage } from '../storage/stream-store.interface.js';
import type { Message } from '../windows/message.js';
import type { WindowEmitter } from '../windows/window-emitter.js';
import type { Window } from '../windows/window.js';
import type { WindowWork } from './window-batch.js';
import { ROWS, type WindowStage } from './window-stage.js';

export interface KeyedStageOptions extends Omit<ResolvedKeyed, 'text'> {
  readonly label: string;
  /** Most messages, and most bytes, of a window that the method gets; larger ones are given in parts. */
  readonly maxSize: number;
  readonly maxBytes: number;
  /** Bytes of the largest message that fits into a row. */
  readonly most: number;
}

/** The data of a message in a row: its content as it was appended, so that each attempt decodes it anew. */
interface StoredContent {
  readonly bson: Uint8Array;
  /** Its int64s may be numbers; see `MessageContent`. */
  readonly auto?: true;
}

/** Which messages a fired window has. Stored, and read by later versions. */
interface FiredContent extends WindowContent {
  readonly order: 'time' | 'append';
  /** Of a part: by place, in that order. */
  readonly from?: number;
  readonly to?: number;
}

const CACHE_BYTES = 64 * 1024 * 1024;
/** Of a row, apart from its value. */
const ROW_BYTES = 128;
const ALL = { maxSize: Infinity, maxBytes: Infinity };

/** Puts messages of a `@Streaming` method into windows by key and event time. What is fired goes to the method. */
export class KeyedStage implements Stage {
  readonly values = ROWS;
  readonly cacheBytes = CACHE_BYTES;

  constructor(private readonly options: KeyedStageOptions) {}

  readonly run = async (window: Window, changes: StageChanges, strategy: WindowEmitter): Promise<void> => {
    requireOnePartition(this.options, window.stream, changes.partitions);
    const batch = new Batch(this.options, window, changes);
    await (strategy as WindowStage).run(window, changes, batch);
    for (const [message, error] of batch.bad) window.reject(message, error);
    changes.drop(batch.dropped);
    for (const { fired, window: made } of batch.given) await this.fire(fired, made, changes);
    window.signal.throwIfAborted();
  };

  readonly givenBack = (strategy: WindowEmitter, most: number): void => (strategy as WindowStage).givenBack(most);

  readonly open = (given: unknown, rows: ReadonlyMap<string, unknown>): readonly StoredMessage[] => {
    if (given === undefined || given === null) return [];
    const { order, from, to, ...content } = given as FiredContent;
    // One that is gone has taken its messages along: the engine tells that some are missing.
    const there = content.chunks.filter((slot) => rows.has(slot));
    return messagesOf({ ...content, chunks: there }, order, (slot) => rows.get(slot))
      .slice(from, to)
      .map(storedFrom);
  };

  /** One window, or its parts. */
  private async fire(fired: FiredWindow, window: RowWindow, changes: StageChanges): Promise<void> {
    const { content, release = [] } = fired;
    if (!content || partsIn(this.options, content) === 1) {
      changes.fire(window);
      return;
    }
    await changes.load(content.chunks);
    const parts = partsOf(content, orderOf(this.options), this.options, (slot) => changes.get(slot));
    let from = 0;
    for (const [part, { length }] of parts.entries()) {
      const to = from + length;
      const isLast = part === parts.length - 1;
      const piece = { ...window, size: { ...window.size, messages: length }, release: isLast ? release : [] };
      const given = { ...(window.content as FiredContent), from, to } satisfies FiredContent;
      changes.fire({ ...piece, content: given, ...(parts.length > 1 && { part }) });
      from = to;
    }
  }
}

function orderOf({ shape }: Pick<KeyedStageOptions, 'shape'>): FiredContent['order'] {
  return shape.windows.kind === 'count' ? 'append' : 'time';
}

/** How many parts there are at the most. */
function partsIn({ maxSize, maxBytes }: KeyedStageOptions, { count, bytes }: WindowContent): number {
  return count <= maxSize && bytes <= maxBytes ? 1 : 2 * (Math.ceil(count / maxSize) + Math.ceil(bytes / maxBytes));
}

function rowWindow(
  options: KeyedStageOptions,
  { key, start, end, openedBy, revision, late, partial, silent, content, release = [] }: FiredWindow,
): RowWindow {
  const window: Mutable<RowWindow> = {
    name: [key, start, end, openedBy, revision].map((part) => part ?? '').join('/'),
    lane: slotOf('lane', key),
    ...{ late, partial, revision },
    size: { messages: content?.count ?? 0, bytes: content?.bytes ?? 0 },
    rows: content?.chunks ?? [],
    release,
    content: content && ({ ...content, order: orderOf(options) } satisfies FiredContent),
  };
  if (options.by !== undefined) window.key = key.toWellFormed();
  if (start !== undefined) window.start = start;
  if (end !== undefined) window.end = end;
  if (silent) window.silent = silent;
  return window;
}

interface Given {
  readonly fired: FiredWindow;
  readonly window: RowWindow;
  /** Of its row, or of those of its parts. */
  readonly bytes: number;
}

/** What one attempt at a batch comes to. */
class Batch implements WindowWork {
  readonly takesSilent = true;
  readonly given: Given[] = [];
  /** Messages to give up, and why. */
  readonly bad = new Map<Message, unknown>();
  dropped = 0;
  private readonly keyBy: ((data: unknown, message: Message) => unknown) | undefined;
  private readonly timeBy: ((data: unknown, message: Message) => unknown) | undefined;

  constructor(
    private readonly options: KeyedStageOptions,
    private readonly window: Window,
    private readonly changes: StageChanges,
  ) {
    const { by, time } = options;
    this.keyBy = by === undefined ? undefined : readerOf(by);
    this.timeBy = time === undefined ? undefined : readerOf(time);
  }

  readonly entries = (): readonly Item[] => this.window.messages.flatMap((message) => this.itemOf(message) ?? []);

  readonly fired = (fired: FiredWindow): void => {
    const window = rowWindow(this.options, fired);
    const parts = fired.content ? partsIn(this.options, fired.content) : 1;
    this.given.push({ fired, window, bytes: parts * (this.changes.sizeOf(window) + ROW_BYTES) });
  };

  readonly takeBack = (windows: number): void => void this.given.splice(this.given.length - windows, windows);

  readonly bytes = (): number => this.given.reduce((sum, { bytes }) => sum + bytes, 0);

  readonly rowTooLarge = (_item: Item, bytes: number): unknown => tooLarge(this.options, bytes);

  readonly givesUp = ({ taken }: LateItem): boolean => this.options.late === 'deadLetter' && !taken;

  readonly late = (late: LateItem): void => {
    const { item, taken } = late;
    // It is in other windows.
    if (taken) return;
    const stored = this.changes.stored(item.id);
    if (stored.redriven) this.fireAlone(late);
    else if (this.options.late === 'deadLetter') this.bad.set(item.message, tooLate(this.options.label, late));
    else this.dropped += 1;
  };

  readonly failed = ({ item, error }: { readonly item: Item; readonly error: unknown }): void => {
    this.bad.set(item.message, error);
  };

  /** Somebody wants it handled, however late it is. */
  private fireAlone({ item, windows: [bounds] }: LateItem): void {
    const { id, key, time, data, bytes, message } = item;
    const slot = `r/${this.changes.seq}/${this.given.length}`;
    const collected: CollectedMessage = { id, time, created: message.created, data, bytes };
    this.changes.put(slot, { messages: [collected] } satisfies Chunk);
    this.fired({
      ...{ key, openedBy: id, revision: 0, late: true, partial: false },
      ...bounds,
      content: { chunks: [slot], count: 1, bytes },
      release: [slot],
    });
  }

  private itemOf(message: Message): Item | undefined {
    const { id, created, data } = message;
    try {
      const stored = this.changes.stored(id);
      if (stored.bytes > this.options.most) throw tooLarge(this.options, stored.bytes);
      const key = this.keyBy ? requireKey(this.options.label, this.keyBy(data, message)) : '';
      const time = this.timeBy ? requireTime(this.options.label, this.timeBy(data, message)) : created.getTime();
      const { bson, int64 } = contentOf(stored);
      const content: StoredContent = int64 === 'auto' ? { bson, auto: true } : { bson };
      // Key and headers are in its content.
      const bare: Message = { id, created, data: undefined };
      return { id, key, time, data: content, message: bare, bytes: stored.bytes };
    } catch (error) {
      this.bad.set(message, error);
      return undefined;
    }
  }
}

function messagesOf(
  content: WindowContent,
  order: FiredContent['order'],
  chunk: (slot: string) => unknown,
): readonly CollectedMessage[] {
  return partsOf(content, order, ALL, chunk).flat();
}

function storedFrom({ id, created, bytes, data }: CollectedMessage): StoredMessage {
  const { bson, auto } = data as StoredContent;
  return new ContentMessage(id, created, bytes, { bson, int64: auto ? 'auto' : 'bigint' });
}

/** Messages of one key may be in several partitions. */
function requireOnePartition({ label }: KeyedStageOptions, stream: string, partitions: number): void {
  if (partitions === 1) return;
  throw new MinibatchError(
    ErrorCode.StageChanged,
    `${label}: '${stream}' has ${partitions} partitions, and messages of one key, or of one time, may be in all of them: windows by key and event time ` +
      'need a stream with one partition',
    { details: { consumer: label, stream, partitions } },
  );
}

function requireKey(label: string, given: unknown): string {
  const key = keyOf(given);
  if (key !== undefined) return key;
  throw new MinibatchError(ErrorCode.NoKey, `${label}: by gave ${show(given)}; allowed: a text, a number or a bigint`);
}

function requireTime(label: string, given: unknown): number {
  const time = timeOf(given);
  if (time !== undefined) return time;
  const shown = given instanceof Date ? 'an invalid Date' : show(given);
  throw new MinibatchError(
    ErrorCode.BadTime,
    `${label}: time gave ${shown}; allowed: a valid Date, or milliseconds since the epoch`,
  );
}

function tooLate(label: string, { item, windows: [first] }: LateItem): MinibatchError {
  const ended = first ? `, which ended at ${new Date(first.end).toISOString()}` : '';
  return new MinibatchError(
    ErrorCode.Late,
    `too late for its window of ${label}${ended}: its time is ${new Date(item.time).toISOString()}`,
    { details: { consumer: label, key: item.key, time: item.time } },
  );
}

function tooLarge({ label, most }: KeyedStageOptions, bytes: number): MinibatchError {
  return new MinibatchError(
    ErrorCode.StateTooLarge,
    `${label}: what is open of its key, in one row, would have ${bytes} bytes with it; allowed: ${most}`,
    { details: { consumer: label, bytes, most } },
  );
}
