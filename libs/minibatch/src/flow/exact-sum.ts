/**
 * A sum without rounding errors, whatever the order: numbers that do not overlap, the smallest first, whose exact sum it is (Shewchuk 1997;
 * Python's `math.fsum`). Before them stands what is not finite. Panes are summed one by one and then together, and the result has to be that of
 * the messages in one go, to the last digit.
 */
export type ExactSum = number[];

export function emptySum(): ExactSum {
  return [0];
}

export function addTo(sum: ExactSum, number: number): void {
  if (!Number.isFinite(number)) {
    sum[0] = (sum[0] ?? 0) + number;
    return;
  }
  let rest = number;
  let kept = 1;
  for (let index = 1; index < sum.length; index += 1) {
    const part = sum[index] ?? 0;
    const [large, small] = Math.abs(rest) < Math.abs(part) ? [part, rest] : [rest, part];
    const high = large + small;
    if (!Number.isFinite(high)) {
      // Too large for a number: so is the result, whatever comes.
      sum[0] = (sum[0] ?? 0) + high;
      return;
    }
    const low = small - (high - large);
    if (low !== 0) sum[kept++] = low;
    rest = high;
  }
  sum.length = kept;
  if (rest !== 0) sum.push(rest);
}

export function mergeSums(into: ExactSum, from: ExactSum): void {
  for (const part of from) addTo(into, part);
}

/** Correctly rounded. */
export function valueOf(sum: ExactSum): number {
  const special = sum[0] ?? 0;
  if (special !== 0) return special;
  let index = sum.length - 1;
  if (index < 1) return 0;
  let high = sum[index] ?? 0;
  let low = 0;
  while (index > 1 && low === 0) {
    index -= 1;
    const [large, small] = [high, sum[index] ?? 0];
    high = large + small;
    low = small - (high - large);
  }
  // Half way between two numbers: what is below decides.
  const below = index > 1 ? (sum[index - 1] ?? 0) : 0;
  if (low * below > 0) {
    const twice = low * 2;
    const rounded = high + twice;
    if (rounded - high === twice) return rounded;
  }
  return high;
}
