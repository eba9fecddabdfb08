import { batchesOf } from '../../common/batches.js';
import { answered } from '../checkpoints.js';
import { EncodedCheckpoints } from '../encoded-checkpoints.js';
import type { AppendOptions, AppendOutcome, NewMessage } from '../stream-store.interface.js';
import { appendOf } from './append-statement.js';
import { positionValues, WRITE_CHECKPOINTS } from './checkpoints.js';
import type { Database } from './database.js';
import {
  type Draft,
  draftsOf,
  failDrafts,
  isDeduped,
  isUnsettled,
  outcomeOf,
  settleDrafts,
  STATEMENT_LIMITS,
  streamsOf,
} from './drafts.js';
import { HeldAppends } from './held-appends.js';
import type { KnownStreams } from './known-streams.js';
import type { Notifications } from './notifications.js';
import { SessionAppends } from './session-append.js';
import { asSession } from './session.js';
import { isLockTimeout } from './store-errors.js';

/** A stream that is dropped and made again and again while messages are appended to it. */
const MOST_TRIES = 4;
/** How long a statement waits for others' transactions that have used its dedupe ids, before those messages go separately; milliseconds. */
const WAIT = 250;
/** The same for the parts of one that has waited as long; some of its messages can be stored at once. */
const PART_WAIT = 20;

type Values = readonly unknown[];

/** Appends messages: as few statements as their sizes allow, then the positions of sources. */
export class Appends {
  private readonly held: HeldAppends;
  private readonly sessions: SessionAppends;

  constructor(
    private readonly database: Database,
    private readonly notifications: Notifications,
    private readonly streams: KnownStreams,
  ) {
    this.held = new HeldAppends(database.most);
    this.sessions = new SessionAppends(database, notifications, streams);
  }

  /** What waits for others' transactions fails. */
  close(): void {
    this.held.close();
  }

  /** @throws AppendError, CheckpointError */
  async append(messages: readonly NewMessage[], options: AppendOptions): Promise<readonly AppendOutcome[]> {
    const outcomes: AppendOutcome[] = [];
    const drafts = draftsOf(messages, outcomes);
    const checkpoints = new EncodedCheckpoints(options.checkpoints ?? []);
    const streams = [...new Set([...streamsOf(drafts), ...checkpoints.streams])];
    const positions = positionValues(checkpoints.due(assumed(outcomes, drafts)));
    let isDone = false;
    if (options.session !== undefined) {
      await this.sessions.append(asSession(options.session), drafts, positions, streams);
      isDone = true;
    } else if (await this.ensure(streams, drafts)) isDone = await this.send(drafts, positions, options.late);
    for (const draft of drafts) outcomes[draft.index] = outcomeOf(draft);
    if (!options.checkpoints) return outcomes;
    const values = isDone ? undefined : positionValues(checkpoints.due(outcomes));
    const failed = [...checkpoints.failed(outcomes)];
    if (values) {
      try {
        await this.database.query('store a position', WRITE_CHECKPOINTS, values);
      } catch (error) {
        failed.push(...checkpoints.due(outcomes).map(({ checkpoint }) => ({ checkpoint, error })));
      }
    }
    return answered(outcomes, failed);
  }

  /** Makes streams that may not be there. Sets the outcomes and resolves with false if that fails. */
  private async ensure(streams: readonly string[], drafts: readonly Draft[]): Promise<boolean> {
    try {
      await this.streams.ensure(streams);
      return true;
    } catch (error) {
      failDrafts(drafts, error);
      return false;
    }
  }

  /** Resolves with true if the positions are stored as well. */
  private async send(
    drafts: readonly Draft[],
    positions: Values | undefined,
    late: AppendOptions['late'],
  ): Promise<boolean> {
    const batches = byWaiting(drafts).flatMap((group) =>
      batchesOf(group, STATEMENT_LIMITS, ({ encoded }) => encoded.length),
    );
    const whole = batches.length === 1 ? positions : undefined;
    let isDone = false;
    for (const { items } of batches) {
      isDone = late ? await this.storeOrPutOff(items, whole, late) : await this.storeOrWait(items, whole);
    }
    const stored = drafts.filter(({ outcome }) => outcome?.status === 'stored');
    if (stored.length > 0) this.notifications.tell(streamsOf(stored));
    return whole !== undefined && isDone;
  }

  /**
   * Sets the outcomes. Resolves with true if all are stored or duplicates, and the positions are stored.
   *
   * @throws HeldUp if another's transaction has used one of the dedupe ids, and has not ended in time
   */
  private async store(drafts: readonly Draft[], positions: Values | undefined, wait: number): Promise<boolean> {
    let left: readonly Draft[] = drafts.filter(isUnsettled);
    for (let tries = 0; tries < MOST_TRIES; tries += 1) {
      try {
        const { statement, values } = appendOf(left, { wait, positions });
        const rows = await this.database.once<readonly [string | null]>(statement, values);
        settleDrafts(
          left,
          rows.map(([id]) => id),
        );
      } catch (error) {
        if (isLockTimeout(error)) throw error;
        failDrafts(left, error);
        return false;
      }
      left = await this.withoutStream(left);
      if (left.length === 0) return true;
    }
    return false;
  }

  /** Those that are not stored because their streams were dropped in the meantime; the streams are made again. */
  private async withoutStream(drafts: readonly Draft[]): Promise<readonly Draft[]> {
    const left = drafts.filter(isUnsettled);
    if (left.length === 0) return left;
    const streams = streamsOf(left);
    this.streams.forget(streams);
    return (await this.ensure(streams, left)) ? left : [];
  }

  private async storeOrWait(drafts: readonly Draft[], positions: Values | undefined): Promise<boolean> {
    try {
      return await this.store(drafts, positions, WAIT);
    } catch {
      return this.storeWhenFree(drafts, positions);
    }
  }

  /** Finds the messages that are held up, by halves; they are stored when that is over, and the caller is told then. */
  private async storeOrPutOff(
    drafts: readonly Draft[],
    positions: Values | undefined,
    late: NonNullable<AppendOptions['late']>,
    wait = WAIT,
  ): Promise<boolean> {
    try {
      return await this.store(drafts, positions, wait);
    } catch {
      const [first] = drafts;
      if (first && drafts.length === 1) {
        late(first.index, this.storeLate(first));
        return false;
      }
      const middle = drafts.length >> 1;
      await this.storeOrPutOff(drafts.slice(0, middle), undefined, late, PART_WAIT);
      await this.storeOrPutOff(drafts.slice(middle), undefined, late, PART_WAIT);
      return false;
    }
  }

  private async storeLate({ index, message, encoded }: Draft): Promise<AppendOutcome> {
    const draft: Draft = { index, message, encoded };
    await this.storeWhenFree([draft], undefined);
    if (draft.outcome?.status === 'stored') this.notifications.tell([message.stream]);
    return outcomeOf(draft);
  }

  private async storeWhenFree(drafts: readonly Draft[], positions: Values | undefined): Promise<boolean> {
    try {
      return await this.held.run((wait) => this.store(drafts, positions, wait));
    } catch (cause) {
      failDrafts(drafts, cause);
      return false;
    }
  }
}

/** The outcomes if all drafts are stored. */
function assumed(outcomes: readonly AppendOutcome[], drafts: readonly Draft[]): readonly AppendOutcome[] {
  const all = [...outcomes];
  for (const { index } of drafts) all[index] = { status: 'duplicate' };
  return all;
}

/**
 * A message with a dedupe id may have to wait for another's transaction, and all messages of its statement wait with it. So messages of
 * streams without dedupe ids go in statements of their own. The order within a stream stays.
 */
function byWaiting(drafts: readonly Draft[]): readonly (readonly Draft[])[] {
  if (!drafts.some(isDeduped)) return [drafts];
  const waiting = new Set<string>();
  for (const draft of drafts) if (isDeduped(draft)) waiting.add(draft.message.stream);
  const others = drafts.filter(({ message }) => !waiting.has(message.stream));
  return others.length === 0 ? [drafts] : [others, drafts.filter(({ message }) => waiting.has(message.stream))];
}
