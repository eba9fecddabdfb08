import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { leaseLost } from '../../errors/store-faults.js';
import type { Lease } from '../stream-store.interface.js';
import type { Database, Queries, Session } from './database.js';
import type { FencedStatement } from './sql.js';

export interface Step {
  readonly statement: FencedStatement;
  readonly values: readonly unknown[];
}

/** Where a write stands among those that are carried out together: a commit point is last, because it has no form that does not wait. */
export const Rank = { Settle: 0, Claim: 1, Commit: 2 } as const;

/** What a consumer writes under its lease. Each step is a transaction of its own, and may be repeated. */
export interface LeaseWrite {
  readonly what: string;
  readonly rank: (typeof Rank)[keyof typeof Rank];
  readonly steps: readonly Step[];
  /** What else is written in the transaction of each step, when it has found the lease to be held. */
  readonly together?: (queries: Queries, row: object) => Promise<void>;
}

interface Waiting {
  readonly write: LeaseWrite;
  readonly resolve: (row: object) => void;
  readonly reject: (error: unknown) => void;
}

/** The writes of one lease. */
interface Queue {
  readonly lease: Lease;
  waiting: Waiting[];
}

/**
 * Claims, commit points and settles of a consumer, which wait for the disk together. They overlap, each for other windows. Were each sent
 * as it comes, the first would begin a flush that the next just misses, and all would wait twice as long. So those of one turn of the
 * event loop go through one connection, and what comes meanwhile goes with the next ones. Only the last of them waits for the disk: the
 * server's log is flushed in order, so what was written before is then on disk, too.
 *
 * All of that holds for one server only. If the connection breaks, all are repeated.
 */
export class LeaseWrites {
  private readonly queues = new Map<string, Queue>();

  constructor(private readonly database: Database) {}

  /** Resolves with the row of the last step when all is on disk. @throws LeaseLost */
  write<R extends object>(lease: Lease, write: LeaseWrite): Promise<R> {
    return new Promise<object>((resolve, reject) => {
      const name = nameOf(lease);
      const waiting = { write, resolve, reject };
      const queue = this.queues.get(name);
      if (queue) queue.waiting.push(waiting);
      else {
        this.queues.set(name, { lease, waiting: [waiting] });
        this.next(name);
      }
    }) as Promise<R>;
  }

  /** The end of one write lets the engine make others, which come within the turn. */
  private next(name: string): void {
    setImmediate(() => void this.run(name));
  }

  private async run(name: string): Promise<void> {
    const queue = this.queues.get(name);
    if (!queue || queue.waiting.length === 0) {
      this.queues.delete(name);
      return;
    }
    const waiting = queue.waiting.toSorted((a, b) => a.write.rank - b.write.rank);
    queue.waiting = [];
    await this.carryOut(queue.lease, waiting);
    this.next(name);
  }

  private async carryOut(lease: Lease, all: readonly Waiting[]): Promise<void> {
    try {
      const rows = await this.send(lease, all);
      for (const [n, { resolve }] of all.entries()) resolve(rows[n]!);
    } catch (error) {
      // One that the server refuses does not hold up the others.
      if (all.length > 1 && !(error instanceof MinibatchError && error.code === ErrorCode.StoreUnavailable))
        await Promise.all(all.map((each) => this.carryOut(lease, [each])));
      else for (const { reject } of all) reject(error);
    }
  }

  /** Resolves with a row for each of the writes. */
  private send(lease: Lease, all: readonly Waiting[]): Promise<object[]> {
    const what = all.map(({ write }) => write.what).join(' and ');
    return this.database.session(what, async (session) => {
      const rows: object[] = [];
      for (const [n, { write }] of all.entries()) rows.push(await sendOne(session, lease, write, n === all.length - 1));
      return rows;
    });
  }
}

async function sendOne(session: Session, lease: Lease, write: LeaseWrite, isLast: boolean): Promise<object> {
  const { steps, together } = write;
  let row: object = {};
  for (const [n, step] of steps.entries()) {
    const waits = isLast && n === steps.length - 1;
    row = together
      ? await session.transaction((queries) => sendStep(queries, lease, step, waits, together))
      : await sendStep(session, lease, step, waits);
  }
  return row;
}

async function sendStep(
  queries: Queries,
  lease: Lease,
  { statement, values }: Step,
  waits: boolean,
  together?: LeaseWrite['together'],
): Promise<object> {
  const [row] = await queries.query(waits ? statement.synced : statement.unsynced, values);
  if (!row) throw leaseLost(lease.key);
  await together?.(queries, row);
  return row;
}

function nameOf({ key, fence, owner }: Lease): string {
  return JSON.stringify([key.stream, key.group, key.partition, fence, owner.id]);
}
