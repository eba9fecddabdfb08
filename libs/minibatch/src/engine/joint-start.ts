import type { ConsumerRecord } from './consumer-records.js';

/**
 * Groups of a stream that are registered at the same time begin together. A group gets what is in the stream when it is registered: what
 * another one has committed by then is gone.
 */
export class JointStart {
  /** By stream: what begins each consumer, once its own group is registered. */
  private readonly joining = new Map<string, Map<ConsumerRecord, (() => void) | undefined>>();

  /** Its group is about to be registered. */
  join(record: ConsumerRecord): void {
    const { stream } = record.definition.key;
    const joining = this.joining.get(stream) ?? new Map<ConsumerRecord, (() => void) | undefined>();
    this.joining.set(stream, joining.set(record, undefined));
  }

  /** Its group is registered. @param begin called when those of the others are, too */
  ready(record: ConsumerRecord, begin: () => void): void {
    const { stream } = record.definition.key;
    this.joining.get(stream)?.set(record, begin);
    this.release(stream);
  }

  /** Its group is not going to be registered: nobody waits for it. */
  leave(record: ConsumerRecord): void {
    const { stream } = record.definition.key;
    if (this.joining.get(stream)?.delete(record)) this.release(stream);
  }

  /** Others can't begin before this one. */
  isAwaited(record: ConsumerRecord): boolean {
    return (this.joining.get(record.definition.key.stream)?.size ?? 0) > 1;
  }

  private release(stream: string): void {
    const begins = [...(this.joining.get(stream)?.values() ?? [])];
    if (begins.includes(undefined)) return;
    this.joining.delete(stream);
    for (const begin of begins) begin?.();
  }
}
