import { cut } from '../errors/error-text.js';
import { type ConsumerActivity, type ConsumerStatus, NOTE_VERSION } from './engine.interface.js';

/** Of a whole note. */
const MOST_BYTES = 2_048;
/** Bytes of each text, and how many there are of a kind; the later ones are for a note that would be too large. */
const LIMITS = [
  { bytes: 200, most: 3 },
  { bytes: 60, most: 1 },
];
/** While something is wrong it is said again after this time, so that others see how long it lasts; milliseconds. */
const REPEAT = 60_000;
const WELL = new Set<ConsumerActivity | undefined>(['waiting', 'handling', 'paused', undefined]);

/** Writes the notes of one consumer. */
export class NoteWriter {
  private text: string | undefined;
  private body = '';
  private at = Number.NEGATIVE_INFINITY;

  /**
   * The same text as long as there is nothing else to say; undefined if nothing has happened yet.
   *
   * @param now milliseconds since the epoch
   */
  write(status: ConsumerStatus, fence: number, now: number): string | undefined {
    const isWell = WELL.has(status.activity) && !status.unsettled && !status.setAside;
    // Thousands of streams may be idle.
    if (this.text === undefined && isWell && hasDoneNothing(status)) return undefined;
    const body = bodyOf(status, fence);
    if (body === this.body && (isWell || now - this.at < REPEAT)) return this.text;
    this.body = body;
    this.at = now;
    return (this.text = `{"at":"${new Date(now).toISOString()}",${body.slice(1)}`);
  }
}

function hasDoneNothing({ committedWindows, failures, expired, recovered, lastError }: ConsumerStatus): boolean {
  return committedWindows + failures + expired + recovered === 0 && !lastError;
}

function bodyOf({ key: _, heir: __, ...status }: ConsumerStatus, fence: number): string {
  let body = '';
  for (const { bytes, most } of LIMITS) {
    const shortened = shorten(status, bytes, most);
    body = JSON.stringify({ v: NOTE_VERSION, fence, status: shortened });
    if (Buffer.byteLength(body) <= MOST_BYTES) break;
  }
  return body;
}

/** Texts are cut, and lists as well, wherever they are. */
function shorten(value: unknown, bytes: number, most: number): unknown {
  if (typeof value === 'string') return cut(value, bytes);
  if (Array.isArray(value)) return value.slice(0, most).map((each) => shorten(each, bytes, most));
  if (typeof value !== 'object' || value === null || value instanceof Date) return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, shorten(each, bytes, most)]));
}
