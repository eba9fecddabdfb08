/**
 * What windows mean, said as plainly as possible: one message at a time, every window by itself, everything in memory, and each window fired
 * the moment the mark passes its end. Slow, and in no need of being anything else: `flow` is compared with it.
 *
 * The same rules, without quiet times and empty windows, gave the same 16,199 lines as Flink 2.3 for tumbling, sliding and session windows.
 */

/** A message, or something that happens to who reads them. */
export type Event = Message | Happening;
export type Message = { readonly id: string; readonly key: string; readonly time: number };
export type Happening =
  /** So many milliseconds in which nothing comes, and everything has been read. */
  | { readonly quiet: number }
  /** The same, but there is more to read. */
  | { readonly backlog: number }
  /** Another process goes on. */
  | { readonly takeover: true }
  /** All windows are fired as they are, and what follows for them is late. */
  | { readonly flush: true };

/** One result. */
export interface Expected {
  readonly key: string;
  readonly start: number;
  readonly end: number;
  readonly ids: readonly string[];
  readonly revision: number;
  readonly late: boolean;
  /** @default false */
  readonly partial?: boolean;
  /** Not told, and not known here. */
  readonly openedBy?: string | undefined;
}

export interface Missed {
  readonly id: string;
  /** Starts of the windows that it came too late for, and got no late window of. */
  readonly starts: readonly number[];
  readonly taken: boolean;
}

export interface Outcome {
  readonly windows: readonly Expected[];
  readonly missed: readonly Missed[];
}

export interface LateRules {
  /** How long messages that are out of order are waited for. */
  readonly wait: number;
  /** How long a closed window takes more. */
  readonly lateness: number;
  /** Whether what comes later has late windows. */
  readonly lateWindows: boolean;
}

export interface HoppingRules extends LateRules {
  readonly interval: number;
  readonly every: number;
  /** Late messages change a result that was given; otherwise they are in late windows. */
  readonly revises: boolean;
  readonly empty: boolean | 'once';
}

/** What a kind of window does. */
interface Definition {
  take(message: Message, mark: number): void;
  /** The mark is there now. */
  pass(mark: number): void;
  /** @returns the latest end of what it fires */
  flush(mark: number): number;
}

/** Moves the mark. */
function follow(events: readonly Event[], wait: number, windows: Definition): void {
  let mark = -Infinity;
  let owed = 0;
  for (const event of events) {
    if ('quiet' in event) {
      mark += Math.max(0, event.quiet - owed);
      if (event.quiet > owed) owed = 0;
    } else if ('takeover' in event) owed = mark === -Infinity ? 0 : wait;
    else if ('time' in event) {
      windows.take(event, mark);
      mark = Math.max(mark, event.time - wait);
    } else if ('flush' in event) mark = Math.max(mark, windows.flush(mark));
    windows.pass(mark);
  }
}

/** The end of time, for a stream that has ended. */
export const END = 10_000;

/**
 * Windows of `interval` every `every`; tumbling ones have both the same.
 *
 * @param end the last mark: keys with `empty: true` have windows for ever
 */
export function hopping(events: readonly Event[], rules: HoppingRules, end = END): Outcome {
  const hops = new Hops(rules);
  follow(events, rules.wait, hops);
  hops.pass(end);
  return hops;
}

class Hops implements Definition, Outcome {
  readonly windows: Expected[] = [];
  readonly missed: Missed[] = [];
  private readonly keys = new Map<string, HoppingKey>();

  constructor(private readonly rules: HoppingRules) {}

  private keyOf(name: string): HoppingKey {
    const key = this.keys.get(name) ?? { name, open: new Map(), gathered: [], filled: new Set(), emptyFrom: Infinity };
    this.keys.set(name, key);
    return key;
  }

  take({ id, key: name, time }: Message, mark: number): void {
    const { interval, every, lateness, lateWindows, revises } = this.rules;
    const starts: number[] = [];
    for (let start = Math.floor(time / every) * every; start > time - interval; start -= every) starts.unshift(start);
    const misses: number[] = [];
    let isTaken = false;
    const key = this.keyOf(name);
    for (const start of starts) {
      const end = start + interval;
      const window = key.open.get(start) ?? { ids: [], revision: -1 };
      if (end > mark) {
        window.ids.push(id);
        key.open.set(start, window);
        key.emptyFrom = Math.min(key.emptyFrom, start);
        isTaken = true;
      } else if (revises && mark < end + lateness) {
        window.ids.push(id);
        window.revision += 1;
        key.open.set(start, window);
        this.windows.push({ key: name, start, end, ids: [...window.ids], revision: window.revision, late: true });
        isTaken = true;
      } else if (lateWindows || mark < end + lateness) {
        this.gather(key, start, id, mark);
        isTaken = true;
      } else misses.push(start);
    }
    if (misses.length > 0) this.missed.push({ id, starts: misses, taken: isTaken });
    // A key that is known by late messages only has empty windows from then on.
    if (isTaken && key.emptyFrom === Infinity && revises && mark < (starts.at(-1) ?? 0) + interval + lateness) {
      key.emptyFrom = (starts.at(-1) ?? 0) + every;
    }
  }

  private gather(key: HoppingKey, start: number, id: string, mark: number): void {
    const { every } = this.rules;
    const open = key.gathered.find((each) => each.start === start);
    if (open) open.ids.push(id);
    else key.gathered.push({ start, ids: [id], due: Math.floor(mark / every) * every + every });
  }

  /** Gives out those of the windows that have not been, in order. */
  private close(key: HoppingKey, starts: readonly number[], mark: number): void {
    const { interval, every, empty } = this.rules;
    for (const start of [...new Set(starts)].sort((a, b) => a - b)) {
      const window = key.open.get(start) ?? { ids: [], revision: -1 };
      key.open.set(start, window);
      if (window.revision >= 0 || window.isDone) continue;
      window.isDone = true;
      if (window.ids.length > 0) key.filled.add(start);
      else if (empty === false || (empty === 'once' && !key.filled.has(start - every))) continue;
      window.revision = 0;
      const end = start + interval;
      this.windows.push({
        ...{ key: key.name, start, end, ids: [...window.ids] },
        ...{ revision: 0, late: false, partial: end > mark },
      });
    }
  }

  flush(mark: number): number {
    const { interval } = this.rules;
    let latest = -Infinity;
    for (const key of this.keys.values()) {
      const isOpen = ({ ids, isDone, revision }: HoppingWindow) => ids.length > 0 && !isDone && revision < 0;
      for (;;) {
        const open = [...key.open].filter(([, window]) => isOpen(window)).map(([start]) => start);
        if (open.length === 0) break;
        const first = Math.min(...open);
        this.close(key, [first, ...emptyStarts(key, first + interval, this.rules)], mark);
        latest = Math.max(latest, first + interval);
      }
      for (const { start, ids } of key.gathered.splice(0)) {
        const bounds = { start, end: start + interval };
        this.windows.push({ key: key.name, ...bounds, ids, revision: 0, late: true, partial: true });
      }
    }
    return latest;
  }

  pass(mark: number): void {
    const { interval } = this.rules;
    for (const key of this.keys.values()) {
      const ends = [...key.open.keys()].filter((start) => start + interval <= mark);
      this.close(key, [...ends, ...emptyStarts(key, mark, this.rules)], mark);
      const due = key.gathered.filter((each) => each.due <= mark);
      key.gathered = key.gathered.filter((each) => each.due > mark);
      for (const { start, ids } of due) {
        this.windows.push({ key: key.name, start, end: start + interval, ids, revision: 0, late: true });
      }
    }
  }
}

interface HoppingWindow {
  readonly ids: string[];
  revision: number;
  isDone?: boolean;
}

interface HoppingKey {
  readonly name: string;
  /** By their starts. */
  readonly open: Map<number, HoppingWindow>;
  gathered: { readonly start: number; readonly ids: string[]; readonly due: number }[];
  /** Starts of windows that had messages when they closed. */
  readonly filled: Set<number>;
  /** The first window that is given out although it may be empty. */
  emptyFrom: number;
}

/** Windows that have closed and might have to be given out empty. */
function emptyStarts(key: HoppingKey, mark: number, { interval, every, empty }: HoppingRules): readonly number[] {
  if (empty === false) return [];
  const starts: number[] = [];
  const candidates = empty === 'once' ? [...key.open.keys()].map((start) => start + every) : [];
  if (empty === true) for (let start = key.emptyFrom; start + interval <= mark; start += every) candidates.push(start);
  for (const start of candidates) if (start + interval <= mark) starts.push(start);
  return starts;
}

export interface SessionRules extends LateRules {
  readonly gap: number;
  readonly longest: number;
  readonly leading: boolean;
}

interface Session {
  readonly key: string;
  readonly start: number;
  readonly last: number;
  readonly ids: readonly string[];
  /** Of a session of late messages. */
  readonly due?: number;
}

export function sessions(events: readonly Event[], rules: SessionRules): Outcome {
  const model = new Sessions(rules);
  follow(events, rules.wait, model);
  model.pass(END);
  return model;
}

class Sessions implements Definition, Outcome {
  readonly windows: Expected[] = [];
  readonly missed: Missed[] = [];
  private open: Session[] = [];
  private gathered: Session[] = [];

  constructor(private readonly rules: SessionRules) {}

  private endOf({ start, last }: Pick<Session, 'start' | 'last'>): number {
    return Math.min(last + this.rules.gap, start + this.rules.longest);
  }

  private give(session: Session, partial = false): void {
    const { key, start, ids, due } = session;
    if (ids.length === 0) return;
    this.windows.push({ key, start, end: this.endOf(session), ids, revision: 0, late: due !== undefined, partial });
  }

  /** The message and all sessions that it connects, as long as that is not too long and has not ended yet. */
  private connect({ id, key, time }: Message, all: readonly Session[], mark: number): readonly [Session, ...Session[]] {
    const { gap, longest } = this.rules;
    let one: Session = { key, start: time, last: time, ids: [id] };
    const joined: Session[] = [];
    for (const each of all.toSorted((a, b) => a.start - b.start || a.last - b.last)) {
      if (each.key !== key || each.start > time + gap || time > this.endOf(each)) continue;
      const [start, last] = [Math.min(one.start, each.start), Math.max(one.last, each.last)];
      if (last - start >= longest || this.endOf({ start, last }) <= mark) continue;
      one = { key, start, last, ids: [...each.ids, ...one.ids] };
      joined.push(each);
    }
    return [one, ...joined];
  }

  take(message: Message, mark: number): void {
    const { gap, leading, lateness, lateWindows } = this.rules;
    const { id, key, time } = message;
    const [session, ...joined] = this.connect(message, this.open, mark);
    const isLate = joined.length === 0 && time + gap <= mark;
    if (!isLate) {
      const leads = leading && joined.length === 0;
      const bounds = { start: time, end: time + gap };
      if (leads) this.windows.push({ key, ...bounds, ids: [id], revision: 0, late: false, partial: true });
      this.open = [...this.open.filter((each) => !joined.includes(each)), leads ? { ...session, ids: [] } : session];
    } else if (lateWindows || mark < time + gap + lateness) {
      const [late, ...others] = this.connect(message, this.gathered, -Infinity);
      const due = Math.min(mark + gap, ...others.map((each) => each.due ?? Infinity));
      this.gathered = [...this.gathered.filter((each) => !others.includes(each)), { ...late, due }];
    } else this.missed.push({ id, starts: [time], taken: false });
  }

  flush(): number {
    const latest = this.open.reduce((end, each) => Math.max(end, this.endOf(each)), -Infinity);
    for (const each of [...this.open, ...this.gathered]) this.give(each, true);
    this.open = [];
    this.gathered = [];
    return latest;
  }

  pass(mark: number): void {
    for (const each of this.open.filter((one) => this.endOf(one) <= mark)) this.give(each);
    this.open = this.open.filter((each) => this.endOf(each) > mark);
    for (const each of this.gathered.filter(({ due = 0 }) => due <= mark)) this.give(each);
    this.gathered = this.gathered.filter(({ due = 0 }) => due > mark);
  }
}

export interface CountRules {
  readonly size: number;
  readonly every: number;
  readonly partial: boolean;
  readonly longest: number;
}

/** By key, the last `size` messages after every `every`. */
export function counting(
  events: readonly Event[],
  { size, every, partial, longest }: CountRules,
  wait: number,
): Outcome {
  const keys = new Map<string, { ids: readonly string[]; isNew: number; due: number; isGiven: boolean }>();
  const windows: Expected[] = [];
  const give = (key: string, ids: readonly string[], isPartial: boolean) => {
    windows.push({ key, start: 0, end: 0, ids: ids.slice(-size), revision: 0, late: false, partial: isPartial });
  };
  const take = ({ id, key, time }: Message) => {
    const before = keys.get(key) ?? { ids: [], isNew: 0, due: Infinity, isGiven: false };
    const ids = [...before.ids, id];
    const isNew = before.isNew + 1;
    if (isNew < every) {
      keys.set(key, { ...before, ids, isNew, due: isNew === 1 ? time + longest : before.due });
      return;
    }
    const isFull = ids.length >= size;
    if (isFull || partial) give(key, ids, !isFull);
    // What is in no later window goes.
    const kept = size === every ? [] : isFull || partial ? ids.slice(every - size) : ids;
    if (kept.length === 0) keys.delete(key);
    else keys.set(key, { ids: kept, isNew: 0, due: time + longest, isGiven: before.isGiven || isFull || partial });
  };
  const flush = () => {
    pass(Infinity);
    return -Infinity;
  };
  const pass = (mark: number) => {
    for (const [key, { ids, isNew, due, isGiven }] of keys) {
      if (due > mark) continue;
      if (isNew > 0 || !isGiven) give(key, ids, true);
      keys.delete(key);
    }
  };
  follow(events, wait, { take, pass, flush });
  pass(END);
  return { windows, missed: [] };
}

/** By key, for each message what came in the time before it: (t − interval, t]. */
export function each(events: readonly Event[], interval: number, wait: number): Outcome {
  const taken: Message[] = [];
  let waiting: readonly Message[] = [];
  const windows: Expected[] = [];
  const missed: Missed[] = [];
  const take = (message: Message, mark: number) => {
    if (message.time <= mark) {
      missed.push({ id: message.id, starts: [message.time - interval], taken: false });
      return;
    }
    taken.push(message);
    waiting = [...waiting, message];
  };
  const give = ({ key, time }: Message, mark: number) => {
    const ids = taken.filter((other) => other.key === key && other.time > time - interval && other.time <= time);
    const bounds = { start: time - interval, end: time };
    windows.push({ key, ...bounds, ids: ids.map(({ id }) => id), revision: 0, late: false, partial: time > mark });
  };
  const flush = (mark: number) => {
    waiting.forEach((each) => give(each, mark));
    const latest = waiting.reduce((end, { time }) => Math.max(end, time), -Infinity);
    waiting = [];
    return latest;
  };
  const pass = (mark: number) => {
    waiting.filter(({ time }) => time <= mark).forEach((message) => give(message, mark));
    waiting = waiting.filter(({ time }) => time > mark);
  };
  follow(events, wait, { take, pass, flush });
  pass(END);
  return { windows, missed };
}

/** A set of results as texts that can be compared. */
export function told({ windows, missed }: Outcome): readonly string[] {
  const given = windows.map(({ key, start, end, ids, revision, late, partial }) => {
    const marks = `${revision > 0 ? ` revision ${revision}` : ''}${late ? ' late' : ''}${partial ? ' partial' : ''}`;
    return `${key} [${start},${end}) ${ids.toSorted().join(' ') || '–'}${marks}`;
  });
  const not = missed.map(
    ({ id, starts, taken }) => `${id} missed ${starts.join(' ')}${taken ? '' : ' and is in none'}`,
  );
  return [...given, ...not].sort();
}
