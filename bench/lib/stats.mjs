/** Numbers of several runs, and how they are written. */

export const sum = (list) => list.reduce((a, b) => a + b, 0);

export const sorted = (list) => [...list].sort((a, b) => a - b);

/** Between the two in the middle, if there are two. */
export function median(list) {
  const values = sorted(list.filter((value) => Number.isFinite(value)));
  if (values.length === 0) return undefined;
  const middle = (values.length - 1) / 2;
  return (values[Math.floor(middle)] + values[Math.ceil(middle)]) / 2;
}

/** The smallest value that a share of all does not exceed. @param {ArrayLike<number>} ascending */
export function percentile(ascending, share) {
  if (ascending.length === 0) return undefined;
  return ascending[Math.min(ascending.length - 1, Math.max(0, Math.ceil(ascending.length * share) - 1))];
}

/** Three digits are what such a measurement is good for. */
export function short(value) {
  if (value === undefined || !Number.isFinite(value)) return '–';
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1000) return Number(value.toPrecision(3)).toLocaleString('en-US');
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  return value.toFixed(2);
}

/** `median (min–max)`. */
export function spread(list, write = short) {
  const values = list.filter((value) => Number.isFinite(value));
  if (values.length === 0) return '–';
  if (values.length === 1) return write(values[0]);
  return `${write(median(values))} (${write(Math.min(...values))}–${write(Math.max(...values))})`;
}
