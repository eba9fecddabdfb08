import type { Lease } from '../stream-store.interface.js';
import { consumerDocumentId } from './consumer-document.js';
import { windowDocumentId } from './window-codec.js';

/** A document of the window collection, with the open windows in it. */
interface Place {
  readonly _id: string;
  /** It has been written as a claim of several windows; how many are left does not matter. */
  readonly shared: boolean;
  /** Those of its windows that are to stay. */
  readonly staying: Set<number>;
}

/** What makes some windows leave. */
export interface Leaving {
  /** Documents in which none stays. */
  readonly documents: readonly string[];
  /** Documents in which others stay. */
  readonly parts: readonly { readonly _id: string; readonly seqs: readonly number[] }[];
}

/**
 * Which document an open window lies in, for the leases that this process holds. It only spares a search: what it does not know is
 * found by the window's number.
 */
export class ClaimLocations {
  /** By consumer: a newer lease takes the place of an older one. */
  private readonly consumers = new Map<string, { readonly fence: number; readonly bySeq: Map<number, Place> }>();

  /** The lease was just taken: nothing is known of it. Its fence may be one of a former life of the consumer, which was dropped. */
  begin({ key, fence }: Lease): void {
    this.consumers.set(consumerDocumentId(key), { fence, bySeq: new Map() });
  }

  put(lease: Lease, _id: string, seqs: readonly number[], shared: boolean): void {
    const bySeq = this.of(lease);
    const place: Place = { _id, shared, staying: new Set(seqs) };
    for (const seq of seqs) bySeq.set(seq, place);
  }

  has(lease: Lease, seq: number): boolean {
    return this.of(lease).has(seq);
  }

  /** Of the document that the window shares, or shared, with others; undefined if it was written alone. */
  sharedBy(lease: Lease, seq: number): string | undefined {
    const place = this.of(lease).get(seq);
    return place?.shared ? place._id : undefined;
  }

  /** Of the document that the window has for itself. */
  ownOf(lease: Lease, seq: number): string {
    return this.of(lease).get(seq)?._id ?? windowDocumentId(lease, seq);
  }

  /**
   * From now on the windows stay no more, also if what takes them out has to be repeated: of several that take windows out of a document at
   * the same time, the last one finds that none stays.
   */
  leaving(lease: Lease, seqs: readonly number[]): Leaving {
    const bySeq = this.of(lease);
    const documents: string[] = [];
    const touched = new Map<Place, number[]>();
    for (const seq of seqs) {
      const place = bySeq.get(seq);
      place?.staying.delete(seq);
      const others = place && touched.get(place);
      if (place === undefined) documents.push(windowDocumentId(lease, seq));
      else if (others) others.push(seq);
      else touched.set(place, [seq]);
    }
    const parts: Leaving['parts'][number][] = [];
    for (const [{ _id, staying }, left] of touched) {
      if (staying.size === 0) documents.push(_id);
      else parts.push({ _id, seqs: left });
    }
    return { documents, parts };
  }

  /** They are no longer where they were. */
  left(lease: Lease, seqs: readonly number[]): void {
    const bySeq = this.of(lease);
    for (const seq of seqs) bySeq.delete(seq);
  }

  private of({ key, fence }: Lease): Map<number, Place> {
    const id = consumerDocumentId(key);
    const known = this.consumers.get(id);
    if (known?.fence === fence) return known.bySeq;
    const bySeq = new Map<number, Place>();
    // What a former lease does late is not kept.
    if (!known || known.fence < fence) this.consumers.set(id, { fence, bySeq });
    return bySeq;
  }
}
