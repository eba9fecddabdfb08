import { kindOf } from './slot.js';
import type { Row } from './window-logic.js';

/**
 * Whether something in this row has to be given out yet. It need not be read with the options that it was written with: those may be unknown by
 * now. What is kept for messages that come late, for empty windows, or for windows that follow, is not open.
 */
export function isOpenRow({ slot, value }: Pick<Row, 'slot' | 'value'>): boolean {
  const facts = value as {
    readonly revision?: number;
    readonly isFired?: true;
    readonly count?: number;
    readonly isGiven?: true;
    readonly pending?: readonly unknown[];
  };
  switch (kindOf(slot)) {
    // Of a key with a schedule, or named by another row.
    case 'p':
    case 'c':
      return false;
    case 'w':
      return facts.revision === undefined;
    case 's':
      return facts.isFired !== true;
    case 'n':
      return facts.count !== 0 || facts.isGiven !== true;
    case 'e':
      return facts.pending?.length !== 0;
    default:
      return true;
  }
}
