/** All partitions of a consumer. */
export interface GroupKey {
  readonly stream: string;
  /** The consumer's name on the stream; `default` for a single one. */
  readonly group: string;
}

/** A consumer's part of a stream: the unit of leasing, claiming and committing. */
export interface ConsumerKey extends GroupKey {
  /** 0 until a stream asks for more. */
  readonly partition: number;
}

/** A consumer's key as one string, for maps and log lines. Names can hold anything but NUL. */
export function consumerId(key: ConsumerKey): string {
  return `${key.stream}\0${key.group}\0${key.partition}`;
}
