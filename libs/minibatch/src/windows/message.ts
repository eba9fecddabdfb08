/** One message of a stream as consumers see it. */
export interface Message<T = unknown> {
  /** The store's id; grows in append order within one process. */
  readonly id: string;
  readonly data: T;
  /** When the producer appended it, by the producer's clock. */
  readonly created: Date;
  readonly key?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A message read ahead and not yet claimed. */
export interface BufferedMessage<T = unknown> extends Message<T> {
  /** Size as stored, in bytes. */
  readonly bytes: number;
  /** When this process first read it, milliseconds of its own clock; `created` may come from a clock that is wrong. */
  readonly seen: number;
  /**
   * It had not come yet when this process found everything that was there last, which began at this time by its own clock: it has waited
   * for no longer, whatever `created` says. Absent if nothing is known.
   */
  readonly notBefore?: number;
}
