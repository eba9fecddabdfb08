import { counted } from '../common/counted.js';
import type { LeaseTerm } from './lease-term.js';

/** A consumer that is being stopped. */
interface Stopping {
  readonly term: LeaseTerm;
  readonly loop: { readonly inFlight: number };
}

/** At most this many consumers are named. */
const MOST = 5;

/** What consumers that are being stopped still wait for, in words; undefined if it is nothing. */
export function describePendingWork(consumers: readonly Stopping[]): string | undefined {
  const waiting = consumers.filter(({ term }) => !term.isOver);
  if (waiting.length === 0) return undefined;
  const named = waiting.slice(0, MOST).map(wordsOf);
  if (waiting.length > MOST) named.push(counted(waiting.length - MOST, 'more consumer'));
  return named.join('; ');
}

function wordsOf({ term, loop }: Stopping): string {
  const { definition, calls } = term;
  const parts = calls.current.map(
    ({ window, sink, since }) =>
      `${sink === undefined ? 'the method' : `sink ${sink}`} with window ${window} since ${since.toISOString()}`,
  );
  if (parts.length === 0) parts.push(`the store, to commit ${counted(loop.inFlight, 'window')}`);
  return `${definition.label}: ${parts.join(', ')}`;
}
