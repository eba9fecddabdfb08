import type {
  ConsumerProgress,
  RateStart,
  Recovery,
  StoredMessage,
  WindowRecord,
} from '../storage/stream-store.interface.js';
import { Bisection } from './bisection.js';
import { laterEnd } from './committer.js';
import { afterDeath, DEATHS } from './deaths.js';
import { isOfStage } from './fired-slots.js';
import { type InFlightWindow, inFlightWindow, takenApart } from './in-flight-window.js';
import type { LeaseTerm } from './lease-term.js';
import type { RowWindows } from './row-windows.js';
import { settle } from './settlement.js';
import { isForStage } from './window-trial.js';
import { counted } from '../common/counted.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';

/** Of rows that stay without windows there are fewer. */
const FEW = { rows: 5, bytes: 64 * 1024 };

/** What a new holder of a lease resumes from. */
export interface TakenOver {
  readonly progress: ConsumerProgress;
  /** Claimed and not committed, with what is left of their messages; by `seq`. */
  readonly windows: readonly InFlightWindow[];
  /** Of the next window to be claimed. */
  readonly nextSeq: number;
  /** End of the last interval for which there is or was a window. */
  readonly lastEnd?: Date;
}

/**
 * Finishes what an earlier holder had committed, and takes over the windows that it had claimed.
 *
 * @param rows absent: the consumer's stage makes no windows of rows
 * @throws MinibatchError `StageChanged` if an earlier version of the consumer has left some
 */
export async function takeOver(term: LeaseTerm, rows?: RowWindows): Promise<TakenOver> {
  const { definition, lease, parts, counters } = term;
  const recovery = await term.persist('take over', () => parts.store.recover(lease));
  term.limiter?.restore(latestStarts(recovery));
  await finishRecorded(term, recovery);
  if (!rows) await requireNoRows(term);

  const windows: InFlightWindow[] = [];
  let { lastEnd } = recovery.progress;
  let nextSeq = recovery.progress.lastSeq + 1;
  // Windows began out of order, and that was noted.
  const isNoted = recovery.open.some(({ aside }) => aside !== undefined);
  let position = 0;
  for (const record of recovery.open) {
    if (!record.slots) lastEnd = laterEnd(lastEnd, record, record.seq > recovery.progress.lastSeq);
    nextSeq = Math.max(nextSeq, record.seq + 1);
    const open = await reopen(term, record, rows);
    if (!open.isIntake) {
      await judge(term, open, !isNoted && position < definition.workers);
      position += 1;
    }
    windows.push(open);
  }
  counters.recovered += windows.length;
  if (windows.length > 0) {
    parts.log.log(`${definition.label}: took over ${counted(windows.length, 'open window')} of an earlier process`);
  }
  const started = await noteStart(term, recovery.progress, lastEnd);
  lastEnd = started ?? lastEnd;
  const progress = started ? { ...recovery.progress, lastEnd: started } : recovery.progress;
  return { progress, windows, nextSeq, ...(lastEnd ? { lastEnd } : {}) };
}

/**
 * Intervals are counted from the end of the last one. As long as there is none they are counted from the first start of all, or a process
 * that is restarted more often than they are long would never reach the end of one. An end that lies in the future was stored by a
 * clock that has been put right since: that is a first start, too.
 */
async function noteStart(
  term: LeaseTerm,
  progress: ConsumerProgress,
  lastEnd: Date | undefined,
): Promise<Date | undefined> {
  const { definition, lease, parts } = term;
  const { emitter, emitterContext } = definition;
  const now = parts.clock.now();
  if (!emitter.countsFromStart) return undefined;
  if (lastEnd && lastEnd.getTime() <= now + (emitterContext.interval ?? 0)) return undefined;
  const started = new Date(now);
  await term.persist('note the first start', () =>
    parts.store.commit(lease, { finished: [], progress: { ...progress, lastEnd: started } }),
  );
  return started;
}

/** Each list of starts has all that counted when it was stored, so the one that was stored last has them all. */
function latestStarts({ progress, open }: Recovery): readonly RateStart[] {
  const last = (starts: readonly RateStart[]) => Math.max(0, ...starts.map(({ at }) => at.getTime()));
  const sum = (starts: readonly RateStart[]) => starts.reduce((total, { cost }) => total + cost, 0);
  return [progress.starts ?? [], ...open.map(({ starts = [] }) => starts)].reduce((latest, starts) => {
    const later = last(starts) - last(latest);
    // Of one and the same millisecond the one that has more is later.
    return later > 0 || (later === 0 && sum(starts) > sum(latest)) ? starts : latest;
  });
}

/** Their commit point is in the store: only the deletes may be missing. The handler is not called again. */
async function finishRecorded(term: LeaseTerm, { finished, groups }: Recovery): Promise<void> {
  if (finished.length === 0) return;
  const windows: { window: WindowRecord; messages: readonly StoredMessage[] }[] = [];
  for (const window of finished) {
    // What is in rows has left the buffer; or is there again, as a redriven message.
    windows.push({ window, messages: window.slots ? [] : await load(term, window.messageIds) });
  }
  await settle(term, windows, { groups });
}

/**
 * A window that ends its process would be redelivered forever, so those whose handler may have been running are counted. From the first
 * takeover on each beginning is noted (`WindowRunner`); the very first is not, for the sake of speed: windows start in order, so it
 * is taken to be the first `workers` of those that were not waiting. Handlers in other processes end none that holds a lease: of those
 * only answers that came back have been counted, when they did (`notedAt`), and losses of workers.
 */
async function judge(term: LeaseTerm, open: InFlightWindow, mayHaveBegun: boolean): Promise<void> {
  const { clean, parts } = term;
  const { record } = open;
  if (term.runsElsewhere) {
    if (clean || record.recoveries < DEATHS) return;
    await afterDeath(term, open);
    await storeDeaths(term, open);
    return;
  }
  const waits = record.nextTry !== undefined && record.nextTry.getTime() > parts.clock.now();
  const begun = record.recoveries === 0 && !waits && !record.dropped && mayHaveBegun ? 1 : 0;
  // A process that was stopped in an orderly way has not died of it.
  const recoveries = clean ? 0 : record.recoveries + begun;
  open.record = { ...record, recoveries };
  if (recoveries > 0) await afterDeath(term, open);
  if (open.record.recoveries === record.recoveries && open.record.split === record.split) return;
  await storeDeaths(term, open);
}

async function storeDeaths(term: LeaseTerm, { record }: InFlightWindow): Promise<void> {
  const { lease, parts } = term;
  await term.persist('count a recovery', () => parts.store.reschedule(lease, record));
}

async function reopen(term: LeaseTerm, record: WindowRecord, rows?: RowWindows): Promise<InFlightWindow> {
  const inherited = !term.clean;
  const suspect = inherited && (!term.runsElsewhere || record.recoveries > 0);
  const open = record.slots
    ? await rowsOf(term, rows).reopen(record, suspect, inherited)
    : await reopenOfBuffer(term, record, suspect, inherited);
  open.isIntake = rows !== undefined && !open.ofRows;
  // The stage is ours, and what others may have done to it is not known: it need not run alone.
  if (open.isIntake) open.suspect = false;
  // What a stage makes of a part would be lost: its group may have had another handler before.
  if (record.split && !isForStage(term, open)) open.apart = takenApart(new Bisection(record.split), record.error);
  return open;
}

function rowsOf(term: LeaseTerm, rows: RowWindows | undefined): RowWindows {
  if (rows) return rows;
  throw windowsAreOpen(term);
}

/** Of windows that an earlier version has begun: messages that have left the buffer would not be handled. */
async function requireNoRows(term: LeaseTerm): Promise<void> {
  const { definition, parts } = term;
  const { store } = parts;
  if (definition.stage || !store.listState) return;
  const page = await term.persist('look for open windows', () => store.listState!(definition.key, undefined, FEW));
  if (page.next !== undefined || page.rows.some(({ slot }) => !isOfStage(slot))) throw windowsAreOpen(term);
}

function windowsAreOpen({ definition }: LeaseTerm): MinibatchError {
  const { stream, group } = definition.key;
  return new MinibatchError(
    ErrorCode.StageChanged,
    `${definition.label}: windows of group '${group}' on '${stream}' are open that an earlier version has made by key or event time: run that ` +
      'version once more, flush the stream and let them be handled; or give the consumer another group',
    { details: { consumer: definition.label, stream, group } },
  );
}

async function reopenOfBuffer(
  term: LeaseTerm,
  record: WindowRecord,
  suspect: boolean,
  inherited: boolean,
): Promise<InFlightWindow> {
  const messages = await load(term, record.messageIds);
  const vanished = record.messageIds.length - messages.length;
  if (vanished > 0) {
    term.counters.vanished += vanished;
    term.parts.log.warn(
      `${term.definition.label}: ${vanished} of ${counted(record.messageIds.length, 'message')} of window ${record.id} ` +
        'vanished from the buffer; something other than this module removed them',
    );
  }
  return inFlightWindow(record, messages, suspect, inherited);
}

async function load(term: LeaseTerm, ids: readonly string[]): Promise<readonly StoredMessage[]> {
  if (ids.length === 0) return [];
  const { definition, parts } = term;
  return term.persist('load open windows', () => parts.store.load(definition.key, ids));
}
