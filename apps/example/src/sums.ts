import type { Flight } from './flights.js';

export interface Sums {
  readonly count: number;
  readonly delay: number;
  readonly distance: number;
}

/** Sums of some flights, by the file they come from. */
export type SumsByFile = Readonly<Record<string, Sums>>;

const ZERO: Sums = { count: 0, delay: 0, distance: 0 };

function plus(a: Sums, b: Sums): Sums {
  return { count: a.count + b.count, delay: a.delay + b.delay, distance: a.distance + b.distance };
}

export function sumsByFile(flights: readonly Flight[]): SumsByFile {
  const files: Record<string, Sums> = {};
  for (const { file, delay, distance } of flights) {
    files[file] = plus(files[file] ?? ZERO, { count: 1, delay, distance });
  }
  return files;
}

export function addByFile(a: SumsByFile, b: SumsByFile): SumsByFile {
  const files: Record<string, Sums> = { ...a };
  for (const [file, sums] of Object.entries(b)) files[file] = plus(files[file] ?? ZERO, sums);
  return files;
}

export function addUp(files: SumsByFile): Sums {
  return Object.values(files).reduce(plus, ZERO);
}
