/** Windows that a stage has fired, by their numbers, in the order in which they are claimed. */
export interface FiredRange {
  /** All before this number have been claimed. */
  readonly from: number;
  /** The next one gets this number. */
  readonly to: number;
}

const FIRED = 'f/';
/** The slot of the `FiredRange`. */
export const QUEUE = 'q/';

/** The slot of the row of a fired window. It is there until the window has been handled. */
export function slotOfFired(number: number): string {
  return `${FIRED}${number}`;
}

export function numberOfFired(slot: string): number {
  return Number(slot.slice(FIRED.length));
}

/** These are the engine's: a stage does not see them. */
export function isOfEngine(slot: string): boolean {
  return slot.startsWith(FIRED) || slot === QUEUE;
}

/** It says something of a stage as a whole, and is there when no window is: a name and nothing behind it. */
export function isOfStage(slot: string): boolean {
  return /^[a-z]+\/$/.test(slot);
}
