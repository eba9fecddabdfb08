/**
 * What one side of a step with windows says of itself. A side is a partition of a source, or windows before it; its messages come into one
 * stream with those of the others. Notes are stored, and read by later versions: fields may come, and none may change its meaning.
 */
export interface SideNote {
  /** Its input and the number of its partition: see `sideOf`. */
  readonly side: string;
  /** How far it has come, in milliseconds since the epoch: what ends here or before need not wait for it. Absent: not known. */
  readonly mark?: number;
  /** Windows before it are open. Nothing comes before the mark passes this, even if the side says nothing for long. */
  readonly next?: number;
  /** Partitions of its input. */
  readonly of?: number;
  /** It has read everything there was, and has had nothing. Nobody waits for it until it says more. */
  readonly isIdle?: true;
  /** Its stream was flushed. */
  readonly flush?: true;
}

export function sideOf(input: string, partition: number): string {
  return `${input}/${partition}`;
}

export function inputOf(side: string): string {
  return side.slice(0, side.lastIndexOf('/'));
}

/** Which sides were flushed: what they go into is flushed when all partitions of an input were. */
export class SideFlushes {
  private readonly flushed: Set<string>;

  constructor(flushed: Iterable<string> = []) {
    this.flushed = new Set(flushed);
  }

  get state(): readonly string[] {
    return [...this.flushed];
  }

  /** @returns whether that was the last partition of its input */
  hear({ side, of = 1, flush }: SideNote): boolean {
    if (flush !== true) return false;
    this.flushed.add(side);
    const all = Array.from({ length: of }, (_, partition) => sideOf(inputOf(side), partition));
    if (!all.every((each) => this.flushed.has(each))) return false;
    for (const each of all) this.flushed.delete(each);
    return true;
  }
}
