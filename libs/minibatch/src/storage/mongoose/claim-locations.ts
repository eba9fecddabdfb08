import type { Lease } from '../stream-store.interface.js';
import { consumerDocumentId } from './consumer-document.js';
import { windowDocumentId } from './window-codec.js';

/** A document of the window collection that holds open windows. */
interface ClaimLocation {
  readonly _id: string;
  /** The document was written for several windows, however many of them are left. */
  readonly shared: boolean;
  /** Windows in it that nobody has begun to remove. */
  readonly staying: Set<number>;
}

/** What has to be written to remove some windows. */
export interface WindowsToRemove {
  /** Documents that no window stays in: they are deleted. */
  readonly documents: readonly string[];
  /** Documents that other windows stay in. */
  readonly parts: readonly { readonly _id: string; readonly seqs: readonly number[] }[];
}

/**
 * Knows which document holds an open window, for the leases of this process. This only saves a search: a window that is not known here
 * is found by its number.
 */
export class ClaimLocations {
  /** By consumer: a newer lease takes the location of an older one. */
  private readonly consumers = new Map<
    string,
    { readonly fence: number; readonly bySeq: Map<number, ClaimLocation> }
  >();

  /** The lease was just acquired: nothing is known yet. The consumer may have been dropped and registered again, with the same fence. */
  begin({ key, fence }: Lease): void {
    this.consumers.set(consumerDocumentId(key), { fence, bySeq: new Map() });
  }

  put(lease: Lease, _id: string, seqs: readonly number[], shared: boolean): void {
    const bySeq = this.of(lease);
    const location: ClaimLocation = { _id, shared, staying: new Set(seqs) };
    for (const seq of seqs) bySeq.set(seq, location);
  }

  has(lease: Lease, seq: number): boolean {
    return this.of(lease).has(seq);
  }

  /** The `_id` of the document that the window shares, or shared, with others; undefined if it has a document of its own. */
  sharedBy(lease: Lease, seq: number): string | undefined {
    const location = this.of(lease).get(seq);
    return location?.shared ? location._id : undefined;
  }

  /** The `_id` of the window's own document. */
  ownOf(lease: Lease, seq: number): string {
    return this.of(lease).get(seq)?._id ?? windowDocumentId(lease, seq);
  }

  /**
   * Begins to remove the windows. They count as gone from now on, even if the removal has to be repeated: when several calls remove
   * windows from one document at the same time, the last one deletes the document.
   */
  remove(lease: Lease, seqs: readonly number[]): WindowsToRemove {
    const bySeq = this.of(lease);
    const documents: string[] = [];
    const touched = new Map<ClaimLocation, number[]>();
    for (const seq of seqs) {
      const location = bySeq.get(seq);
      location?.staying.delete(seq);
      const others = location && touched.get(location);
      if (location === undefined) documents.push(windowDocumentId(lease, seq));
      else if (others) others.push(seq);
      else touched.set(location, [seq]);
    }
    const parts: WindowsToRemove['parts'][number][] = [];
    for (const [{ _id, staying }, left] of touched) {
      if (staying.size === 0) documents.push(_id);
      else parts.push({ _id, seqs: left });
    }
    return { documents, parts };
  }

  /** The windows are gone from their documents. */
  removed(lease: Lease, seqs: readonly number[]): void {
    const bySeq = this.of(lease);
    for (const seq of seqs) bySeq.delete(seq);
  }

  /** The lease was given back. */
  forget({ key, fence }: Lease): void {
    const id = consumerDocumentId(key);
    if (this.consumers.get(id)?.fence === fence) this.consumers.delete(id);
  }

  private of({ key, fence }: Lease): Map<number, ClaimLocation> {
    const id = consumerDocumentId(key);
    const known = this.consumers.get(id);
    if (known?.fence === fence) return known.bySeq;
    const bySeq = new Map<number, ClaimLocation>();
    // A former lease that acts late leaves no trace.
    if (!known || known.fence < fence) this.consumers.set(id, { fence, bySeq });
    return bySeq;
  }
}
