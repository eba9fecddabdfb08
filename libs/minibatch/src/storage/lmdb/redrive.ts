import { asRedriven } from '../encoded-message.js';
import type { DeadLetterFilter } from '../stream-store.interface.js';
import { findStream, registered } from './streams.js';
import type { LmdbEnvironment } from './environment.js';
import { type LetterKey, letterKey } from './keys.js';
import {
  namedLetters,
  pickLetters,
  readLetter,
  removeLetter,
  saveDeadLetterCounter,
  deadLetterCounterOf,
} from './dead-letters.js';
import type { StreamRecord } from './records.js';
import { GroupAppend } from './group-append.js';
import type { ReadView, WriteView } from './view.js';

/**
 * How dead letters leave: back into the buffer, or for good. They are looked for in read transactions, which hold up nobody, and
 * go in as many write transactions as they need. Each of these moves its letters as a whole, so that a crash or another process
 * at the same work neither loses nor doubles a message.
 */

/** Letters of one transaction. */
const CHUNK = 1_000;
/** Bytes of messages that one transaction moves; it ends with the letter that reaches them. */
const CHUNK_BYTES = 16 * 1024 * 1024;

/** What one transaction did: the letters it came to, and those of them that left. */
interface Step {
  readonly seen: number;
  readonly left: number;
}

export function redriveLetters(environment: LmdbEnvironment, name: string, filter: DeadLetterFilter): Promise<number> {
  return removeLetters(environment, name, filter, putBack);
}

export function discardLetters(environment: LmdbEnvironment, name: string, filter: DeadLetterFilter): Promise<number> {
  return removeLetters(environment, name, filter, (view, _, keys) => ({
    seen: keys.length,
    left: keys.filter((key) => removeLetter(view, key)).length,
  }));
}

async function removeLetters(
  environment: LmdbEnvironment,
  name: string,
  filter: DeadLetterFilter,
  remove: (view: WriteView, stream: StreamRecord, keys: readonly LetterKey[]) => Step,
): Promise<number> {
  const first = environment.read((view) => {
    const stream = findStream(view, name);
    return (
      stream && {
        stream: stream.id,
        until: deadLetterCounterOf(view, stream.id).last,
        ...namedLetters(stream.id, filter),
      }
    );
  });
  if (first === undefined) return 0;
  // Never beyond the last one of the beginning: a message that is redriven and dies again has a later number.
  const { stream: id, ...numbers } = first;
  let after = 0;
  let total = 0;
  for (;;) {
    const from = after;
    const keys = environment.read((view) => {
      const stream = sameStream(view, name, id);
      return stream === undefined ? [] : pickLetters(view, stream, filter, { ...numbers, after: from }, CHUNK);
    });
    const last = keys.at(-1);
    if (last === undefined) return total;
    for (let at = 0; at < keys.length;) {
      const rest = keys.slice(at);
      const { seen, left } = await environment.write((view): Step => {
        const stream = sameStream(view, name, id);
        if (stream === undefined) return { seen: rest.length, left: 0 };
        const step = remove(view, stream, rest);
        const counter = deadLetterCounterOf(view, id);
        if (step.left > 0) saveDeadLetterCounter(view, id, { ...counter, count: counter.count - step.left });
        return step;
      });
      at += seen;
      total += left;
    }
    after = last.number;
  }
}

/** Undefined if it was dropped meanwhile, also if it was made again. */
function sameStream(view: ReadView, name: string, id: number): StreamRecord | undefined {
  const stream = findStream(view, name);
  return stream?.id === id ? stream : undefined;
}

/** Letters of a group that is not registered stay, and so do damaged ones. */
function putBack(view: WriteView, stream: StreamRecord, keys: readonly LetterKey[]): Step {
  const groups = registered(stream);
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
    append.put(key.partition, owner, asRedriven(letter.message));
    left += 1;
  }
  append.finish();
  return { seen, left };
}
