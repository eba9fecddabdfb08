import { deepStrictEqual } from 'node:assert';
import { MessageBuffer } from './message-buffer.js';
import type { BufferedMessage, Message } from './message.js';
import { type CutLimits, type CutWindow, WindowCutter } from './window-cutter.js';
import type { EmitterContext, MessageView, ReadPlan, WindowEmitter } from './window-emitter.js';

export interface StoredOne extends Message<{ value: number }> {
  readonly bytes: number;
}

export interface DriverOptions extends Partial<CutLimits> {
  readonly context?: Partial<EmitterContext>;
  /** Messages of one read. */
  readonly block?: number;
  /** Most messages in the buffer, unless the strategy asks for other room. */
  readonly lookAhead?: number;
  /** Most bytes in the buffer. */
  readonly readAheadBytes?: number;
  /** Windows of one cut. */
  readonly max?: number;
  /** Called after each read: messages that arrive during reading. */
  readonly afterRead?: (driver: Driver) => void;
}

/** Far more than any test needs: a strategy that goes beyond would never come to rest. */
const MOST_TURNS = 50_000;
const MOST_WAKES = 100_000;
const MOST_WINDOWS = 100_000;

/** 2023-11-14T22:00:00Z: a full hour, so that intervals up to an hour begin here. */
export const T0 = 1_700_000_000_000 - (1_700_000_000_000 % 3_600_000);

export const CONTEXT: EmitterContext = {
  stream: 'flights',
  group: 'default',
  now: T0,
  offset: 0,
  grace: 1000,
  maxAhead: 60_000,
  empty: false,
};

/**
 * Reads an array as the emitter's loop reads a store: block by block, in the order that the strategy wants, what is
 * claimed subtracted. The clock is the `now` of each call.
 */
export class Driver {
  readonly stored: StoredOne[] = [];
  readonly windows: CutWindow[] = [];
  readonly buffer = new MessageBuffer();
  readonly cutter: WindowCutter;
  /** Blocks read. */
  reads = 0;
  private now: number;
  private jumped = 0;
  private nextId = 1;
  private order: ReadPlan['order'] = 'idle';
  private until: number | undefined;
  private passEnd: number | undefined;
  private stale = true;
  private position: { range: number; after?: StoredOne } = { range: 0 };
  private readonly held = new Set<string>();

  constructor(
    readonly emitter: WindowEmitter<{ value: number }>,
    readonly options: DriverOptions = {},
  ) {
    const { context, maxSize = 10_000, maxBytes = Infinity } = options;
    const given = { ...CONTEXT, ...context };
    this.now = given.now;
    this.cutter = new WindowCutter(refuseChanges(emitter), { maxSize, maxBytes }, given);
    void emitter.init(given);
  }

  /** Stores messages created at these times, with values counting up unless given. */
  append(...messages: readonly (number | { created: number; value?: number; bytes?: number; id?: string })[]): void {
    for (const given of messages) {
      const { created, value, bytes, id } = typeof given === 'number' ? { created: given } : given;
      const number = this.nextId++;
      this.stored.push({
        id: id ?? `m${String(number).padStart(8, '0')}`,
        created: new Date(created),
        data: { value: value ?? number },
        bytes: bytes ?? 100,
      });
    }
    this.stored.sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** Works until there is nothing to do but wait; resolves with the windows made meanwhile. */
  run(now: number, flushing = false): readonly CutWindow[] {
    const before = this.windows.length;
    this.now = now;
    this.stale = true;
    let restart = flushing;
    for (let turn = 0, still = 0; still < 3; turn += 1) {
      if (turn > MOST_TURNS) throw new Error('the strategy never lets the loop come to rest');
      const { order } = this;
      const plan = this.emitter.reads(now, flushing);
      this.follow(plan, restart);
      restart = false;
      const moved = plan.order !== 'idle' && this.work(plan, flushing);
      if (!moved && flushing && this.buffer.complete) flushing = false;
      else if (moved || order !== this.order) still = 0;
      else still += 1;
    }
    return this.windows.slice(before);
  }

  /** Sets the clock forward or back. */
  jump(ms: number): void {
    this.jumped += ms;
    this.now += ms;
  }

  /** Emits the tail now. */
  flush(now = this.now): readonly CutWindow[] {
    return this.run(now, true);
  }

  /** Lets the time pass up to `now`, waking whenever the strategy asked for it. */
  advance(now: number): readonly CutWindow[] {
    const before = this.windows.length;
    this.run(this.now);
    for (let wakes = 0; ; wakes += 1) {
      if (wakes > MOST_WAKES) throw new Error('the strategy asks to be woken without end');
      const wake = this.wake();
      if (wake === undefined || wake > now) break;
      if (wake <= this.now) throw new Error('the strategy asks to be woken in the past');
      this.run(wake);
    }
    if (now > this.now) this.run(now);
    return this.windows.slice(before);
  }

  private wake(): number | undefined {
    return this.order === 'idle' ? this.until : this.emitter.nextCheck(this.buffer as never);
  }

  private follow(plan: ReadPlan, forced: boolean): void {
    const restart = forced || plan.order !== this.order;
    this.order = plan.order;
    this.until = plan.order === 'idle' ? plan.until : undefined;
    if (plan.order === 'append' && restart) {
      this.position = { range: 0 };
      this.stale = true;
      this.buffer.complete = false;
    }
    if (plan.order === 'time') {
      const end = plan.ranges[0]?.to;
      if (!restart && (this.passEnd === end || !this.buffer.complete)) return;
      this.passEnd = end;
      for (const { id } of this.buffer.messages) this.held.delete(id);
      this.buffer.clear();
      this.position = { range: 0 };
      this.stale = true;
      this.buffer.complete = false;
    }
  }

  /** One read and one cut. True if there was anything to read or to cut. */
  private work(plan: Exclude<ReadPlan, { order: 'idle' }>, flushing: boolean): boolean {
    const { buffer, options } = this;
    const { lookAhead = 10_000, readAheadBytes = Infinity, max = 1000 } = options;
    const room = (plan.order === 'append' ? plan.room : undefined) ?? lookAhead;
    const reads = (this.stale || !buffer.complete) && buffer.length < room && buffer.bytes < readAheadBytes;
    if (reads) this.read(plan, Math.min(options.block ?? 1000, room - buffer.length));
    buffer.now = this.now;
    buffer.monotonic = this.now - this.jumped;
    buffer.flushing = flushing;
    buffer.freeWorkers = Infinity;
    buffer.saturated = buffer.length >= room || buffer.bytes >= readAheadBytes;
    const cut = this.cutter.cut(buffer, max);
    this.windows.push(...cut);
    if (this.windows.length > MOST_WINDOWS) throw new Error('the strategy emits windows without end');
    const gone = new Set(cut.flatMap(({ messages }) => messages.map(({ id }) => id)));
    if (gone.size > 0) {
      const left = this.stored.filter(({ id }) => !gone.has(id));
      this.stored.splice(0, this.stored.length, ...left);
    }
    return reads || cut.length > 0;
  }

  private read(plan: Exclude<ReadPlan, { order: 'idle' }>, limit: number): void {
    this.reads += 1;
    this.stale = false;
    const block = plan.order === 'append' ? this.readOn(limit) : this.readByTime(plan.ranges, limit);
    const fresh = block.filter(({ id }) => !this.held.has(id));
    for (const { id } of fresh) this.held.add(id);
    this.buffer.push(fresh.map((message) => ({ ...message, seen: this.now })));
    this.options.afterRead?.(this);
  }

  private readOn(limit: number): readonly StoredOne[] {
    const { after } = this.position;
    const free = this.stored.filter(({ id }) => !this.held.has(id) && (!after || id > after.id));
    const block = free.slice(0, limit);
    const isFull = free.length > limit;
    this.buffer.complete = !isFull && after === undefined;
    this.position = { range: 0, ...(isFull ? { after: block.at(-1) } : {}) };
    return block;
  }

  private readByTime(
    ranges: readonly { readonly from?: number; readonly to?: number }[],
    limit: number,
  ): readonly StoredOne[] {
    const { range, after } = this.position;
    const bounds = ranges[range];
    if (!bounds) {
      this.buffer.complete = true;
      return [];
    }
    const { from = -Infinity, to = Infinity } = bounds;
    const found = this.stored
      .filter(({ created }) => created.getTime() >= from && created.getTime() < to)
      .filter((message) => !after || byTime(after, message) < 0)
      .sort(byTime);
    const block = found.slice(0, limit);
    const last = block.at(-1);
    if (found.length > limit && last) this.position = { range, after: last };
    else {
      this.position = { range: range + 1 };
      this.buffer.complete = range + 1 >= ranges.length;
    }
    return block;
  }
}

function byTime(a: StoredOne, b: StoredOne): number {
  return a.created.getTime() - b.created.getTime() || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}

/** A window in one line: `[0,60) part 1 late: 3 4`, times in seconds after T0. */
export function told({ messages, bounds: { start, end, part, late }, dropped }: CutWindow): string {
  const seconds = (time: Date) => (time.getTime() - T0) / 1000;
  const words = [
    ...(start && end ? [`[${seconds(start)},${seconds(end)})`] : []),
    ...(part === undefined ? [] : [`part ${part}`]),
    ...(late ? ['late'] : []),
    ...(dropped ? ['dropped'] : []),
  ];
  const values = messages.map(({ data }) => (data as { value: number }).value);
  return `${words.join(' ')}: ${values.join(' ')}`.trim();
}

/** A message in the buffer. */
export function message(value: number, more: Partial<BufferedMessage> = {}): BufferedMessage<{ value: number }> {
  return {
    id: `m${String(value).padStart(8, '0')}`,
    created: new Date(T0 + value),
    bytes: 100,
    seen: T0 + value,
    ...more,
    data: { value },
  };
}

/** Makes `windowReady` and `query` throw if they change a field of the strategy, or answer otherwise when they are asked twice. */
function refuseChanges<E extends WindowEmitter<{ value: number }>>(emitter: E): E {
  const fields = () =>
    structuredClone(Object.fromEntries(Object.entries(emitter).filter(([, it]) => typeof it !== 'function')));
  for (const method of ['windowReady', 'query'] as const) {
    const asked = emitter[method].bind(emitter) as (view: MessageView<{ value: number }>) => unknown;
    const checked = (view: MessageView<{ value: number }>) => {
      const before = fields();
      const answer = asked(view);
      deepStrictEqual(fields(), before, `${method}() changed the strategy`);
      deepStrictEqual(asked(view), answer, `${method}() answered otherwise when it was asked again`);
      return answer;
    };
    Object.assign(emitter, { [method]: checked });
  }
  return emitter;
}
