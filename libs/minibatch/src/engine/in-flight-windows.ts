import { LiveSet } from '../common/live-set.js';
import { type InFlightWindow, WindowState } from './in-flight-window.js';
import { Lanes } from './lanes.js';

/** Where a window may go from each state. */
const NEXT: Readonly<Record<WindowState, readonly WindowState[]>> = {
  [WindowState.Claiming]: [WindowState.Ready, WindowState.Finished, WindowState.SetAside],
  [WindowState.Ready]: [WindowState.Running],
  [WindowState.Running]: [WindowState.Finished, WindowState.SetAside, WindowState.Abandoned],
  [WindowState.SetAside]: [WindowState.Ready, WindowState.Running],
  [WindowState.Finished]: [WindowState.Committing],
  [WindowState.Committing]: [WindowState.Leaving],
  [WindowState.Leaving]: [],
  [WindowState.Abandoned]: [],
};

/** The part of a commit that whole records have to be, if it is to end with them. */
const MOST = 0.75;

/** How much is in one state. */
interface Amount {
  windows: number;
  messages: number;
  bytes: number;
}

/**
 * The windows of a consumer that are claimed and not committed: the one owner of their states, of the queues that they wait in, and of
 * how many there are. A window moves only by `transition`.
 */
export class InFlightWindows {
  private readonly amounts: Readonly<Record<WindowState, Amount>> = {
    [WindowState.Claiming]: { windows: 0, messages: 0, bytes: 0 },
    [WindowState.Ready]: { windows: 0, messages: 0, bytes: 0 },
    [WindowState.Running]: { windows: 0, messages: 0, bytes: 0 },
    [WindowState.SetAside]: { windows: 0, messages: 0, bytes: 0 },
    [WindowState.Finished]: { windows: 0, messages: 0, bytes: 0 },
    [WindowState.Committing]: { windows: 0, messages: 0, bytes: 0 },
    [WindowState.Leaving]: { windows: 0, messages: 0, bytes: 0 },
    [WindowState.Abandoned]: { windows: 0, messages: 0, bytes: 0 },
  };
  private readonly total: Amount = { windows: 0, messages: 0, bytes: 0 };
  private readonly fresh: InFlightWindow[] = [];
  private readonly retries: InFlightWindow[] = [];
  /** For the stage, not for the handler. */
  private readonly intake: InFlightWindow[] = [];
  private readonly lanes = new Lanes();
  private readonly running = new LiveSet<InFlightWindow>();
  private readonly aside: InFlightWindow[] = [];
  private finished: InFlightWindow[] = [];
  /** Those that are committing or leaving, by commit. */
  private readonly commits = new LiveSet<readonly InFlightWindow[]>();
  private isolatedCount = 0;
  /** Of the effects of those that are committing or leaving. */
  private effectBytes = 0;
  private blockedCount = 0;

  /** A window begins. */
  add(open: InFlightWindow): void {
    this.total.windows += 1;
    this.total.messages += open.messages.length;
    this.total.bytes += open.bytes;
    this.count(open, 1);
  }

  transition(open: InFlightWindow, to: WindowState): void {
    if (!NEXT[open.state].includes(to)) {
      throw new Error(`Window ${open.record.id} is ${open.state} and can't become ${to}: a bug of nestjs-minibatch`);
    }
    this.leave(open);
    this.count(open, -1);
    open.state = to;
    this.count(open, 1);
    this.enter(open);
  }

  /** Its claim is gone, and its messages are to be in other windows. */
  withdraw(open: InFlightWindow): void {
    this.leave(open);
    this.discount(open);
  }

  /** Windows of messages that are ready, in the order of their numbers. */
  get readyOfMessages(): readonly InFlightWindow[] {
    const ready = [...this.retries, ...this.fresh, ...this.intake].filter(({ ofRows }) => !ofRows);
    return ready.sort((a, b) => a.record.seq - b.record.seq);
  }

  /** The windows of a commit have left the store. */
  remove(commit: readonly InFlightWindow[]): void {
    this.commits.delete(commit);
    for (const open of commit) {
      this.effectBytes -= open.effects?.bytes ?? 0;
      this.discount(open);
    }
  }

  private discount(open: InFlightWindow): void {
    this.unisolate(open);
    this.count(open, -1);
    this.total.windows -= 1;
    this.total.messages -= open.messages.length;
    this.total.bytes -= open.bytes;
  }

  // ---- how many

  in(state: WindowState): Readonly<Amount> {
    return this.amounts[state];
  }

  /** Claimed and not committed. */
  get size(): number {
    return this.total.windows - this.amounts.claiming.windows - this.amounts.abandoned.windows;
  }

  /** Committing or leaving. */
  get inCommits(): number {
    return this.amounts.committing.windows + this.amounts.leaving.windows;
  }

  /**
   * What counts against reading ahead. Running windows do not: their number is bounded, and no worker is to wait for the others. What is
   * set aside has bounds of its own, or there would never be evidence for it. Only the bytes count of what waits behind a window of its lane, or
   * one key would hold up the others; and of what is committed: where each step waits for the disk, the next block has to be read by then.
   */
  get readAhead(): Readonly<Omit<Amount, 'windows'>> {
    const { total } = this;
    const { running, setAside, committing, leaving } = this.amounts;
    return {
      messages:
        total.messages -
        running.messages -
        setAside.messages -
        committing.messages -
        leaving.messages -
        this.behind.messages,
      bytes: total.bytes - running.bytes - setAside.bytes,
    };
  }

  /** A window that starts now would be the only one that runs or waits for its commit. */
  get isQuiet(): boolean {
    return this.amounts.running.windows + this.amounts.finished.windows + this.inCommits === 0;
  }

  /** The window with this id, if it may still run. */
  findRunnable(id: string): InFlightWindow | undefined {
    const isIt = ({ record }: InFlightWindow) => record.id === id;
    return [...this.running, ...this.fresh, ...this.retries, ...this.intake, ...this.lanes, ...this.aside].find(isIt);
  }

  /** The window with this id is finished, and has not left the store. */
  isFinishing(id: string): boolean {
    return [this.finished, ...this.commits].some((some) => some.some(({ record }) => record.id === id));
  }

  // ---- ready

  /** First of those that run again. */
  get nextRetry(): InFlightWindow | undefined {
    return this.retries[0];
  }

  /** First of the others. */
  get nextFresh(): InFlightWindow | undefined {
    return this.fresh[0];
  }

  /** First of those that have not failed as a probe; one of another lane than those that are set aside, if there is one. */
  get nextUntried(): InFlightWindow | undefined {
    const lanes = new Set(this.aside.map(({ ofRows }) => ofRows?.lane));
    let first: InFlightWindow | undefined;
    for (const open of this.fresh) {
      if (open.failedAsProbe) continue;
      if (!open.ofRows || !lanes.has(open.ofRows.lane)) return open;
      first ??= open;
    }
    return first;
  }

  /** The next one for a stage that fires windows; one after another. */
  get nextIntake(): InFlightWindow | undefined {
    const [next] = this.intake;
    return next && ![...this.running].some(({ isIntake }) => isIntake) ? next : undefined;
  }

  /** The stage can take a window now. */
  get isIntakeFree(): boolean {
    return this.intake.length === 0 && ![...this.running].some(({ isIntake }) => isIntake);
  }

  /** Another window of its lane is ready or runs. */
  isLaneTaken(open: InFlightWindow): boolean {
    return this.lanes.isTaken(open);
  }

  /** Another window of its lane is set aside. */
  isLaneAside({ ofRows }: InFlightWindow): boolean {
    return ofRows !== undefined && this.aside.some((other) => other.ofRows?.lane === ofRows.lane);
  }

  /** Windows that wait behind another one of their lane. */
  get behind(): { readonly windows: number; readonly messages: number } {
    return this.lanes.behind;
  }

  // ---- suspects

  /** A suspect is to run alone, from now until it has left, or is set aside. */
  isolate(open: InFlightWindow): void {
    if (!open.suspect || open.isolated) return;
    open.isolated = true;
    this.isolatedCount += 1;
  }

  get hasIsolated(): boolean {
    return this.isolatedCount > 0;
  }

  private unisolate(open: InFlightWindow): void {
    if (!open.isolated) return;
    open.isolated = false;
    this.isolatedCount -= 1;
  }

  // ---- windows that wait for evidence

  setBlocked(open: InFlightWindow, blocked: boolean): void {
    if (open.blocked === blocked) return;
    open.blocked = blocked;
    this.blockedCount += blocked ? 1 : -1;
  }

  get hasBlocked(): boolean {
    return this.blockedCount > 0;
  }

  /** In the order in which they are probed. */
  get setAside(): readonly InFlightWindow[] {
    return this.aside;
  }

  // ---- commits

  /**
   * Takes finished windows for a commit, the oldest first, up to about this many messages.
   *
   * @param mayLeaveRest the commit may end where a record of the store is complete, if that is most of what it could take: a commit that
   * takes much less costs more than it saves
   * @param effectBytes bytes that the effects of all commits may have together
   */
  takeFinished(messages: number, mayLeaveRest = false, effectBytes = Infinity): readonly InFlightWindow[] {
    let taken = 0;
    let count = 0;
    let complete = { messages: 0, count: 0 };
    let room = effectBytes - this.effectBytes;
    for (const open of this.finished) {
      room -= open.effects?.bytes ?? 0;
      if (count > 0 && (taken + open.messages.length > messages || room < 0)) break;
      taken += open.messages.length;
      count += 1;
      if (open.completesRecord) complete = { messages: taken, count };
    }
    if (mayLeaveRest && complete.count > 0 && complete.messages >= MOST * taken) count = complete.count;
    const commit = this.finished.splice(0, count);
    for (const open of commit) {
      this.transition(open, WindowState.Committing);
      this.effectBytes += open.effects?.bytes ?? 0;
    }
    this.commits.add(commit);
    return commit;
  }

  /** The next finished window fits: with others that are committing or leaving, or because there are none. */
  hasRoomFor(effectBytes: number): boolean {
    const next = this.finished[0]?.effects?.bytes ?? 0;
    return this.commits.size === 0 || this.effectBytes + next <= effectBytes;
  }

  /** Numbers of all windows whose commit point is being written, or whose messages are leaving. */
  committedSeqs(): readonly number[] {
    const seqs: number[] = [];
    for (const commit of this.commits) for (const { record } of commit) seqs.push(record.seq);
    return seqs;
  }

  /** Commits that are being written, or whose messages are leaving. */
  get commitCount(): number {
    return this.commits.size;
  }

  // ---- transitions

  private leave(open: InFlightWindow): void {
    switch (open.state) {
      case WindowState.Ready:
        if (!this.lanes.takeOut(open)) takeOut(this.queueOf(open), open);
        return;
      case WindowState.Running:
        this.running.delete(open);
        this.letNext(open);
        return;
      case WindowState.SetAside:
        takeOut(this.aside, open);
        return;
      default:
      // Nowhere, or in a commit: `takeFinished` took it out of the finished ones.
    }
  }

  private enter(open: InFlightWindow): void {
    switch (open.state) {
      case WindowState.Ready:
        if (this.lanes.enter(open)) putInOrder(this.queueOf(open), open);
        return;
      case WindowState.Running:
        this.running.add(open);
        return;
      case WindowState.SetAside:
        // One that waits must not keep the others from running.
        this.unisolate(open);
        this.aside.push(open);
        return;
      case WindowState.Finished:
        completeRecord(open);
        this.finished.push(open);
        return;
      default:
    }
  }

  private letNext(open: InFlightWindow): void {
    const next = this.lanes.leave(open);
    if (next) putInOrder(this.queueOf(next), next);
  }

  private queueOf({ isIntake, retry }: InFlightWindow): InFlightWindow[] {
    return isIntake ? this.intake : retry ? this.retries : this.fresh;
  }

  private count(open: InFlightWindow, sign: 1 | -1): void {
    const amount = this.amounts[open.state];
    amount.windows += sign;
    amount.messages += sign * open.messages.length;
    amount.bytes += sign * open.bytes;
  }
}

/** One more window of its record is finished. */
function completeRecord(open: InFlightWindow): void {
  const { claimRecord } = open;
  if (!claimRecord) return;
  claimRecord.unfinished -= 1;
  open.completesRecord = claimRecord.unfinished === 0;
}

function takeOut(list: InFlightWindow[], open: InFlightWindow): void {
  // The usual case.
  if (list[0] === open) list.shift();
  else list.splice(list.indexOf(open), 1);
}

/** By number; new windows come last. */
function putInOrder(list: InFlightWindow[], open: InFlightWindow): void {
  const last = list.at(-1);
  if (!last || last.record.seq < open.record.seq) {
    list.push(open);
    return;
  }
  list.splice(
    list.findIndex(({ record }) => record.seq > open.record.seq),
    0,
    open,
  );
}
