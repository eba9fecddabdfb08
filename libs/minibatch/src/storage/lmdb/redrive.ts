import { asRedriven, type EncodedMessage, originalOf } from '../encoded-message.js';
import type { DeadLetterFilter } from '../stream-store.interface.js';
import { readLetter, removeLetter } from './dead-letter-records.js';
import { removeLetters, type Step } from './dead-letter-removal.js';
import type { LmdbEnvironment } from './environment.js';
import { GroupAppend } from './group-append.js';
import { keptAtKey, type LetterKey, letterKey, replayKey } from './keys.js';
import { PRESENT, type StreamRecord } from './records.js';
import type { WriteView } from './view.js';

/** Bytes of messages that one transaction moves; it ends with the letter that reaches them. */
const CHUNK_BYTES = 16 * 1024 * 1024;

/** Puts the messages of dead letters back into the buffer, each for its own group. Resolves with how many. */
export function redriveLetters(environment: LmdbEnvironment, name: string, filter: DeadLetterFilter): Promise<number> {
  return removeLetters(environment, name, filter, putBack);
}

/** Letters of a group that is not registered stay, and so do damaged ones. */
function putBack(view: WriteView, stream: StreamRecord, keys: readonly LetterKey[]): Step {
  const { groups } = stream;
  const append = new GroupAppend(view, stream);
  let seen = 0;
  let left = 0;
  for (const key of keys) {
    if (append.bytes >= CHUNK_BYTES) break;
    seen += 1;
    const owner = stream.letterGroups?.[key.group];
    if (owner === undefined || !groups.some(({ name }) => name === owner)) continue;
    const letter = readLetter(view.get(letterKey(key)));
    if (letter === undefined || !removeLetter(view, key)) continue;
    const seq = append.put(key.partition, owner, asRedriven(letter.message));
    noteCopy(view, stream.id, letter.message, seq);
    left += 1;
  }
  append.finish();
  return { seen, left };
}

/** A replay has to pass over the kept message again while its copy waits. */
function noteCopy(view: WriteView, stream: number, encoded: EncodedMessage, copy: number): void {
  const original = originalOf(encoded);
  const isKept = original !== undefined && view.has(keptAtKey(stream, original));
  if (isKept) view.put(replayKey(stream, original, copy), PRESENT);
}
