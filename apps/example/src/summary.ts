import { addUp, type Sums } from './sums.js';
import type { Total } from './totals.js';

/** The table that is printed at the end. */
export function summary(totals: readonly Total[]): string {
  const head = row('consumer', 'windows', 'file', 'count', 'sum of delay', 'sum of distance');
  const body = totals.flatMap(({ group, windows, files }) => [
    '-'.repeat(head.length),
    ...Object.entries(files)
      .sort(([a], [b]) => a.localeCompare(b, 'en', { numeric: true }))
      .map(([file, sums]) => line('', '', file, sums)),
    line(group, windows, 'all', addUp(files)),
  ]);
  return [head, ...body].join('\n');
}

function line(group: string, windows: number | '', file: string, { count, delay, distance }: Sums): string {
  return row(group, windows, file, count, delay, distance);
}

function row(...[group, windows, file, ...sums]: readonly (string | number)[]): string {
  const left = `${String(group).padEnd(12)}${String(windows).padStart(8)}  ${String(file).padEnd(14)}`;
  return left + sums.map((value) => String(value).padStart(17)).join('');
}
