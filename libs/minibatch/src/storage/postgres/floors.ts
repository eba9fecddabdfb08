import { SYSTEM_CLOCK } from '../../common/clock.js';
import type { Database } from './database.js';
import { numberArray } from './ids.js';
import { statement } from './sql.js';

/** Between two looks at the server; milliseconds. */
const PAUSE = 1_000;
/** Partitions that are remembered; more streams than this come and go. */
const MOST = 10_000;

interface Floor {
  readonly stream: string;
  readonly partition: number;
  /** No message up to this number is there, nor will one ever be. */
  value: number;
  /** Whether somebody has read from the start since the last look. */
  read: boolean;
}

interface Look {
  /** The last number that was given. */
  readonly last: number;
  readonly xmin: number;
  readonly xmax: number;
  /** Where the log of the server ends, and up to where it is on disk. */
  readonly written: number;
  readonly synced: number;
  readonly firsts: readonly (number | null)[];
}

const LOOK =
  statement(`select (select case when is_called then last_value else 0 end from minibatch.message_id) as last,
  pg_snapshot_xmin(pg_current_snapshot())::text::bigint as xmin, pg_snapshot_xmax(pg_current_snapshot())::text::bigint as xmax,
  pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 as written,
  pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::float8 as synced,
  (select json_agg((select m.id from minibatch.message m
      where m.stream = (select s.id from minibatch.stream s where s.name = f.stream) and m.partition = f.partition and m.id > f.floor
      order by m.id limit 1) order by f.n)
    from unnest($1::text[], $2::int[], $3::bigint[]) with ordinality f(stream, partition, floor, n)) as firsts`);

/**
 * From which id on a partition has to be read. Messages that are gone stay in its index until the server has cleaned up, which an old
 * snapshot anywhere in the database can put off for hours; a read from the start would pass over all of them each time.
 *
 * A number that was given may turn up late: its transaction is still open. Transactions get their own number before they get numbers of
 * messages (see `append.ts`). So of the numbers that were given at one look, all belong to transactions below the end of the next
 * look's snapshot, and when all of these have ended, no message turns up below any more. The log has to be on disk up to there:
 * otherwise a crash of the server could give the numbers again.
 */
export class Floors {
  private readonly floors = new Map<string, Floor>();
  private safe = 0;
  /** The numbers up to `last` are safe when the transactions below `xmax` have ended, and the log is on disk up to `written`. */
  private candidate: { readonly last: number; xmax?: number; written?: number } | undefined;
  private lookedAt = Number.NEGATIVE_INFINITY;
  private looking: Promise<void> | undefined;
  private breaks = 0;

  constructor(private readonly database: Database) {}

  /** The number after which a read from the start begins. */
  of(stream: string, partition: number): number {
    return this.at(stream, partition).value;
  }

  /** Somebody reads from the start. Looks at the server from time to time, without making anybody wait. */
  readFrom(stream: string, partition: number): number {
    const floor = this.at(stream, partition);
    floor.read = true;
    if (!this.looking && SYSTEM_CLOCK.monotonic() - this.lookedAt >= PAUSE) void this.look();
    return floor.value;
  }

  private at(stream: string, partition: number): Floor {
    // The server may have crashed, or be another one.
    if (this.breaks !== this.database.breaks) this.reset();
    const name = `${stream}\0${partition}`;
    let floor = this.floors.get(name);
    if (floor === undefined) {
      if (this.floors.size >= MOST) this.floors.clear();
      floor = { stream, partition, value: 0, read: false };
      this.floors.set(name, floor);
    }
    return floor;
  }

  private reset(): void {
    this.breaks = this.database.breaks;
    this.floors.clear();
    this.safe = 0;
    this.candidate = undefined;
  }

  /** One at a time: each builds on what the one before has seen. */
  look(): Promise<void> {
    return (this.looking ??= this.lookOnce().finally(() => {
      this.lookedAt = SYSTEM_CLOCK.monotonic();
      this.looking = undefined;
    }));
  }

  private async lookOnce(): Promise<void> {
    const { breaks } = this;
    const floors = [...this.floors.values()].filter(({ read }) => read);
    for (const floor of floors) floor.read = false;
    try {
      const [look] = await this.database.query<Look>('look at the ids', LOOK, [
        floors.map(({ stream }) => stream),
        floors.map(({ partition }) => partition),
        numberArray(floors.map(({ value }) => value)),
      ]);
      if (look && breaks === this.database.breaks) this.learn(look, floors);
    } catch {
      // Only an attempt: whoever reads will report what is wrong with the server.
    }
  }

  private learn(look: Look, floors: readonly Floor[]): void {
    // What was safe before this look: its snapshot has all of these messages that are there.
    const { safe, candidate } = this;
    for (const [index, floor] of floors.entries()) {
      const first = look.firsts[index] ?? Number.POSITIVE_INFINITY;
      floor.value = Math.max(floor.value, Math.min(safe, first - 1));
    }
    if (candidate === undefined) this.candidate = { last: look.last };
    else if (candidate.xmax === undefined || candidate.written === undefined) {
      candidate.xmax = look.xmax;
      candidate.written = look.written;
    } else if (look.xmin >= candidate.xmax && look.synced >= candidate.written) {
      this.safe = candidate.last;
      this.candidate = { last: look.last };
    }
  }
}
