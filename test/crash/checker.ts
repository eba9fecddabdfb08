import { existsSync, readFileSync } from 'node:fs';

/** What the processes of a scenario wrote down, in the order in which it happened. */
export type CrashEntry = { readonly pid: number } & (
  | { readonly kind: 'appended'; readonly rows: readonly number[] }
  | { readonly kind: 'claim'; readonly group: string; readonly windows: readonly ClaimedWindow[] }
  | {
      readonly kind: 'recovered';
      readonly group: string;
      readonly open: readonly string[];
      readonly finished: readonly string[];
    }
  | {
      readonly kind: 'start' | 'put';
      readonly group: string;
      readonly window: string;
      readonly rows: readonly number[];
    }
  | { readonly kind: 'committed'; readonly group: string; readonly windows: readonly string[] }
  | { readonly kind: 'ended'; readonly step: string; readonly nth: number; readonly signal: string }
  | { readonly kind: 'end'; readonly buffered: number; readonly open: number; readonly letters: readonly Letter[] }
  | { readonly kind: 'stuck'; readonly buffered: number }
);

/** Group and row of a dead letter. */
type Letter = readonly [string, number];

interface ClaimedWindow {
  readonly id: string;
  /** Message id and row. */
  readonly messages: readonly (readonly [string, number])[];
}

export type ViolationKind =
  | 'lost'
  | 'not drained'
  | 'appended twice'
  | 'handled after its commit'
  | 'committed in two windows'
  | 'committed twice'
  | 'committed before its sink'
  | 'bad row not given up'
  | 'good row given up';

export interface Violation {
  readonly kind: ViolationKind;
  readonly detail: string;
}

export interface Verdict {
  /** Rows whose append was acknowledged. */
  readonly appended: number;
  /** Rows that a handler has seen; this and what follows in each group. */
  readonly handled: number;
  /** Rows that handlers of more than one process have seen. */
  readonly repeated: number;
  readonly deadLetters: number;
  readonly lost: number;
  readonly violations: readonly Violation[];
}

/** Processes that have to die with a window before a message of it may be given up for that. */
const DEATHS = 3;

export function readCrashLog(path: string): readonly CrashEntry[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line.endsWith('}'))
    .map((line) => JSON.parse(line) as CrashEntry);
}

/** Holds the log of a scenario against what the library promises. `bad`: the rows that the handlers can't take. */
export function check(entries: readonly CrashEntry[], bad: ReadonlySet<number>, groups = ['default']): Verdict {
  const violations: Violation[] = [];
  const appended = new Set(entries.flatMap((entry) => (entry.kind === 'appended' ? entry.rows : [])));
  const end = entries.findLast((entry) => entry.kind === 'end');
  if (!end) violations.push({ kind: 'not drained', detail: 'no process came to its end' });
  else if (end.buffered > 0 || end.open > 0) {
    violations.push({ kind: 'not drained', detail: `${end.buffered} messages and ${end.open} windows are left` });
  }
  for (const entry of entries) {
    if (entry.kind === 'stuck')
      violations.push({ kind: 'not drained', detail: `stuck with ${entry.buffered} messages` });
  }
  const verdicts = groups.map((group) => {
    const own = entries.filter((entry) => 'group' in entry && entry.group === group);
    const letters = (end?.letters ?? []).flatMap(([owner, row]) => (owner === group ? [row] : []));
    return checkGroup(own, letters, appended, bad);
  });
  for (const [index, verdict] of verdicts.entries()) {
    for (const { kind, detail } of verdict.violations) violations.push({ kind, detail: `${groups[index]}: ${detail}` });
  }
  const sum = (of: (verdict: Omit<Verdict, 'appended'>) => number) =>
    verdicts.reduce((total, verdict) => total + of(verdict), 0);
  return {
    appended: appended.size,
    handled: sum(({ handled }) => handled),
    repeated: sum(({ repeated }) => repeated),
    deadLetters: sum(({ deadLetters }) => deadLetters),
    lost: sum(({ lost }) => lost),
    violations,
  };
}

/** What one group's processes did, as their log tells it. */
class Story {
  readonly violations: Violation[] = [];
  /** By row: the processes whose handlers have seen it, and those that had it in an open window. */
  readonly starters = new Map<number, Set<number>>();
  readonly holders = new Map<number, Set<number>>();
  readonly put = new Set<number>();
  /** By row: the window that was committed with it. */
  readonly committedIn = new Map<number, string>();
  /** Rows that were in a committed window and in no sink by then. */
  readonly unsent: { readonly row: number; readonly window: string }[] = [];
  private readonly committed = new Set<string>();
  /**
   * Windows whose commit a process has written down. One that was stopped right after its commit writes it down when it wakes,
   * and by then the process that took over has found the window finished: that is still one commit.
   */
  private readonly told = new Set<string>();
  private readonly rowsOf = new Map<string, readonly number[]>();
  private readonly messageOf = new Map<number, string>();
  /** The process that took over last. One that was stopped meanwhile may begin a handler before it notices: that does not count. */
  private holder: number | undefined;

  report(kind: ViolationKind, detail: string): void {
    this.violations.push({ kind, detail });
  }

  tell(entry: CrashEntry): void {
    switch (entry.kind) {
      case 'claim':
        for (const window of entry.windows) this.claim(entry.pid, window);
        break;
      case 'recovered':
        this.holder = entry.pid;
        for (const window of entry.open) this.hold(entry.pid, window);
        for (const window of entry.finished) this.commit(window);
        break;
      case 'start':
        for (const row of entry.rows) {
          add(this.starters, row, entry.pid);
          if (this.committedIn.has(row) && entry.pid === this.holder) {
            this.report('handled after its commit', `row ${row} in window ${entry.window}`);
          }
        }
        break;
      case 'put':
        for (const row of entry.rows) this.put.add(row);
        break;
      case 'committed':
        for (const window of entry.windows) {
          if (this.told.has(window) || (this.committed.has(window) && entry.pid === this.holder)) {
            this.report('committed twice', window);
          }
          this.told.add(window);
          this.commit(window);
        }
        break;
      case 'appended':
      case 'ended':
      case 'stuck':
      case 'end':
        break;
    }
  }

  private claim(pid: number, { id, messages }: ClaimedWindow): void {
    const rows = messages.map(([, row]) => row);
    this.rowsOf.set(id, rows);
    this.hold(pid, id);
    for (const [message, row] of messages) {
      const other = this.messageOf.get(row);
      if (other !== undefined && other !== message) {
        this.report('appended twice', `row ${row}: ${other} and ${message}`);
      }
      this.messageOf.set(row, message);
    }
  }

  private hold(pid: number, window: string): void {
    for (const row of this.rowsOf.get(window) ?? []) add(this.holders, row, pid);
  }

  private commit(window: string): void {
    if (this.committed.has(window)) return;
    this.committed.add(window);
    for (const row of this.rowsOf.get(window) ?? []) {
      const other = this.committedIn.get(row);
      if (other !== undefined) this.report('committed in two windows', `row ${row}: ${other} and ${window}`);
      this.committedIn.set(row, window);
      if (!this.put.has(row)) this.unsent.push({ row, window });
    }
  }
}

/** `letters`: the rows among the group's dead letters. */
function checkGroup(
  entries: readonly CrashEntry[],
  letters: readonly number[],
  appended: ReadonlySet<number>,
  bad: ReadonlySet<number>,
): Omit<Verdict, 'appended'> {
  const story = new Story();
  for (const entry of entries) story.tell(entry);
  const { committedIn, put, starters, holders } = story;
  const given = new Set(letters);
  for (const { row, window } of story.unsent) {
    if (!given.has(row)) story.report('committed before its sink', `row ${row} in window ${window}`);
  }
  const lost = [...appended].filter((row) => !given.has(row) && !(committedIn.has(row) && put.has(row)));
  for (const row of lost) {
    const where = committedIn.has(row) ? 'committed, and in no sink' : 'neither committed nor a dead letter';
    story.report('lost', `row ${row}: ${where}`);
  }
  for (const row of bad) {
    const count = letters.filter((letter) => letter === row).length;
    if (appended.has(row) && count !== 1) story.report('bad row not given up', `row ${row}: ${count} dead letters`);
  }
  for (const row of given) {
    const deaths = holders.get(row)?.size ?? 0;
    if (!bad.has(row) && deaths < DEATHS) story.report('good row given up', `row ${row}, after ${deaths} processes`);
  }
  return {
    handled: starters.size,
    repeated: [...starters.values()].filter((pids) => pids.size > 1).length,
    deadLetters: letters.length,
    lost: lost.length,
    violations: story.violations,
  };
}

function add(map: Map<number, Set<number>>, key: number, value: number): void {
  const values = map.get(key);
  if (values) values.add(value);
  else map.set(key, new Set([value]));
}
