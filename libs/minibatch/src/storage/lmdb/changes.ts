import type { StreamChanges } from '../stream-store.interface.js';

/** Changes that are remembered. */
const MOST = 4_096;

/** What lmdb-js has, and its types don't show. */
interface Transactions {
  getWriteTxnId?(): number;
  readonly env?: { info?(): { readonly lastTxnId: number } };
}

/**
 * Which streams of an environment have changed for their readers. LMDB numbers the transactions of all processes: if the last one is this
 * process's own, nobody else has written since the one before, and what this process has written is known here.
 */
export class Changes {
  /** The streams of the last changes of this process, by number of the change. */
  private readonly streams: number[] = [];
  private count = 0;
  /** How often it was seen that others may have written. */
  private others = 0;
  /** The last transaction that is known here. */
  private last: number | undefined;
  /** What the running change has changed so far. */
  private readonly touched = new Set<number>();

  /** @param transactions the database. A version of lmdb-js without them tells nothing: then everything may have changed */
  constructor(private readonly transactions: Transactions) {}

  /** Readers of the stream have to look, once the running change is committed. */
  touch(stream: number): void {
    this.touched.add(stream);
  }

  /** A change that writes has run to its end. Returns the streams that it has touched. */
  ran(): readonly number[] {
    const id = this.transactions.getWriteTxnId?.();
    if (id !== undefined && this.last !== undefined && id !== this.last && id !== this.last + 1) this.others += 1;
    this.last = id;
    return this.takeTouched();
  }

  /** What was touched is not written, or is not known to be. */
  takeTouched(): readonly number[] {
    const streams = [...this.touched];
    this.touched.clear();
    return streams;
  }

  committed(streams: readonly number[]): void {
    for (const stream of streams) {
      this.streams[this.count % MOST] = stream;
      this.count += 1;
    }
  }

  /** A transaction may have failed, and its number may be another one's now. */
  failed(): void {
    this.others += 1;
  }

  /** @param nameOf the name of a stream, unless it is gone */
  since(mark: string | undefined, nameOf: (stream: number) => string | undefined): StreamChanges {
    const last = this.transactions.env?.info?.().lastTxnId;
    if (last === undefined || this.last === undefined || last > this.last) {
      this.others += 1;
      this.last = last;
    }
    const now = `${this.others}.${this.count}`;
    const [others, count] = (mark ?? '').split('.').map(Number);
    const isKnown = others === this.others && count !== undefined && this.count - count <= MOST;
    if (!isKnown) return { mark: now };
    const changed = new Set<number>();
    for (let n = count; n < this.count; n += 1) changed.add(this.streams[n % MOST] ?? 0);
    return { mark: now, streams: [...changed].flatMap((stream) => nameOf(stream) ?? []) };
  }
}
