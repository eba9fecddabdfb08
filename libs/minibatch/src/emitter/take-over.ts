import type { ConsumerProgress, Recovery, StoredMessage, WindowRecord } from '../storage/stream-store.interface.js';
import { begin, failed } from './bisection.js';
import { laterEnd } from './committer.js';
import { type OpenWindow, openWindow } from './open-window.js';
import type { Tenure } from './tenure.js';

/** So many processes may end while they handle a window before it is taken apart. */
const DEATHS = 3;
const DIED = 'the process ended while it was handled';

/** What a new holder of a lease goes on from. */
export interface TakenOver {
  readonly progress: ConsumerProgress;
  /** Claimed and not committed, with what is left of their messages; by `seq`. */
  readonly windows: readonly OpenWindow[];
  /** Of the next window to be claimed. */
  readonly nextSeq: number;
  /** End of the last interval for which there is or was a window. */
  readonly lastEnd?: Date;
}

/** Finishes what an earlier holder had committed, and takes over the windows that it had claimed. */
export async function takeOver(tenure: Tenure): Promise<TakenOver> {
  const { definition, lease, parts, counters } = tenure;
  const recovery = await tenure.persist('take over', () => parts.store.recover(lease));
  await finishRecorded(tenure, recovery);

  const windows: OpenWindow[] = [];
  let { lastEnd } = recovery.progress;
  let nextSeq = recovery.progress.lastSeq + 1;
  for (const [position, record] of recovery.open.entries()) {
    lastEnd = laterEnd(lastEnd, record, record.seq > recovery.progress.lastSeq);
    nextSeq = Math.max(nextSeq, record.seq + 1);
    windows.push(await reopen(tenure, await judge(tenure, record, position)));
  }
  counters.recovered += windows.length;
  if (windows.length > 0) {
    parts.log.log(`${definition.label}: took over ${windows.length} open windows of an earlier process`);
  }
  return { progress: recovery.progress, windows, nextSeq, ...(lastEnd ? { lastEnd } : {}) };
}

/** Their commit point is in the store: only the deletes may be missing. The handler is not called again. */
async function finishRecorded(tenure: Tenure, { finished, groups }: Recovery): Promise<void> {
  const { definition, lease, parts } = tenure;
  if (finished.length === 0) return;
  const windows: { window: WindowRecord; messages: readonly StoredMessage[] }[] = [];
  for (const window of finished) windows.push({ window, messages: await load(tenure, window.messageIds) });
  await tenure.persist('remove committed messages', () =>
    parts.store.settle(lease, windows, { groups, keep: definition.keep, at: new Date(parts.clock.now()) }),
  );
}

/**
 * A window that ends its process would come again for ever, so those whose handler may have been running are counted. From the first
 * takeover on each beginning is noted (`WindowRunner`); the very first is not, for the sake of speed: windows start in order, so it
 * is taken to be the first `workers` of those that were not waiting.
 */
async function judge(tenure: Tenure, record: WindowRecord, position: number): Promise<WindowRecord> {
  const { definition, clean, lease, parts } = tenure;
  const waits = record.nextTry !== undefined && record.nextTry.getTime() > parts.clock.now();
  const begun = record.recoveries === 0 && !waits && !record.dropped && position < definition.workers ? 1 : 0;
  // A process that was stopped in an orderly way has not died of it.
  const judged = clean
    ? { ...record, recoveries: 0 }
    : afterDeath({ ...record, recoveries: record.recoveries + begun });
  if (judged.recoveries === record.recoveries && judged.split === record.split) return record;
  await tenure.persist('count a recovery', () => parts.store.reschedule(lease, judged));
  if (judged.split && !record.split) {
    parts.log.warn(
      `${definition.label}: ${DEATHS} processes ended while they handled window ${record.id}; looking for the message that ends them`,
    );
  }
  return judged;
}

async function reopen(tenure: Tenure, record: WindowRecord): Promise<OpenWindow> {
  const messages = await load(tenure, record.messageIds);
  const vanished = record.messageIds.length - messages.length;
  if (vanished > 0) {
    tenure.counters.vanished += vanished;
    tenure.parts.log.warn(
      `${tenure.definition.label}: ${vanished} of ${record.messageIds.length} messages of window ${record.id} ` +
        'have vanished from the buffer; something else than this module removed them',
    );
  }
  return openWindow(record, messages, !tenure.clean);
}

async function load(tenure: Tenure, ids: readonly string[]): Promise<readonly StoredMessage[]> {
  if (ids.length === 0) return [];
  const { definition, parts } = tenure;
  return tenure.persist('load open windows', () => parts.store.load(definition.key, ids));
}

/**
 * What becomes of a window whose handler was begun `recoveries` times by processes that did not come to its end. A lease that was
 * lost looks the same as a death, so a message is given up only after `DEATHS` of them; to halve a part needs no proof, since
 * nothing is lost by it.
 */
function afterDeath(record: WindowRecord): WindowRecord {
  const { split, recoveries } = record;
  const part = split?.pending[0];
  if (recoveries === 0 || (split && !part)) return record;
  if (split && part && part.to - part.from > 1) {
    return { ...record, recoveries: 0, split: failed(split, DIED, undefined) };
  }
  if (recoveries < DEATHS) return record;
  if (!split) return { ...record, recoveries: 0, split: begin(record.messageIds.length), error: DIED };
  // A single message has two tries: it has had them.
  const once = failed(split, DIED, undefined);
  const next = once.failed.length > split.failed.length ? once : failed(once, DIED, undefined);
  return { ...record, recoveries: 0, split: next };
}
