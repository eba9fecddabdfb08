import type { IndexRange, SplitState } from './stream-store.interface.js';

/**
 * Where a window that is taken apart stands, packed: it is written again and again, and in the worst case every second message of ten
 * thousand has failed. A byte for the format, one for the flag, then each list as its length and the distances between its ends.
 */
const FORMAT = 1;

export function encodeSplit({ pending, alone, again, last }: SplitState): Buffer {
  const bytes = [FORMAT, last ? 1 : 0];
  for (const ranges of [pending, alone, again]) {
    put(bytes, ranges.length);
    let end = 0;
    for (const { from, to } of ranges) {
      put(bytes, from - end);
      put(bytes, to - from);
      end = to;
    }
  }
  return Buffer.from(bytes);
}

/** Undefined for what this version does not know: the window is tried as a whole again, and split from the start. */
export function decodeSplit(bytes: Uint8Array | undefined): SplitState | undefined {
  if (bytes?.[0] !== FORMAT) return undefined;
  const reader = new Reader(bytes, 2);
  const [pending, alone, again] = [reader.ranges(), reader.ranges(), reader.ranges()];
  return { pending, alone, again, last: bytes[1] === 1 };
}

/** Seven bits a byte, the lowest first. */
function put(bytes: number[], value: number): void {
  let rest = value;
  for (; rest > 127; rest >>>= 7) bytes.push((rest & 127) | 128);
  bytes.push(rest);
}

class Reader {
  constructor(
    private readonly bytes: Uint8Array,
    private at: number,
  ) {}

  ranges(): readonly IndexRange[] {
    const ranges: IndexRange[] = [];
    let end = 0;
    // Damaged bytes may promise more than there is.
    for (let left = this.number(); left > 0 && this.at < this.bytes.length; left -= 1) {
      const from = end + this.number();
      end = from + this.number();
      ranges.push({ from, to: end });
    }
    return ranges;
  }

  private number(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.bytes[this.at++] ?? 0;
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
  }
}
