import type { ConsumerRecord, StreamRecord } from './records.js';

/** More than a process usually has streams. When it is reached, the cache is emptied. */
const MOST = 10_000;

/**
 * Records that every step reads and few change. The bytes are read each time, because other processes change them too; decoding them
 * each time made a fifth of all garbage at windows of one. Decoded records are shared, and frozen.
 */
export class DecodedRecords<R extends StreamRecord | ConsumerRecord> {
  private readonly known = new Map<string, { readonly bytes: Buffer; readonly record: R }>();

  constructor(private readonly decoder: (bytes: Buffer, place: string) => R) {}

  /** @param place where the record lies */
  decode(place: string, bytes: Buffer): R {
    const known = this.known.get(place);
    if (known?.bytes.equals(bytes)) return known.record;
    if (known === undefined && this.known.size >= MOST) this.known.clear();
    const record = this.decoder(bytes, place);
    Object.freeze(record);
    for (const part of Object.values(record)) Object.freeze(part);
    this.known.set(place, { bytes, record });
    return record;
  }
}
