import { ErrorCode, MinibatchError, messageOf } from '../errors/minibatch.error.js';
import type { StoredMessage } from '../storage/stream-store.interface.js';
import type { Undecodable } from './batch-window.js';
import type { InFlightWindow } from './in-flight-window.js';
import type { LeaseTerm } from './lease-term.js';
import { bury } from './settlement.js';
import { counted } from '../common/counted.js';

/**
 * Makes dead letters of these messages at once and takes them out of what the handler gets: no attempt would change them, and the others
 * are not to wait for them. Nothing is noted in the window; a process that takes it over finds them again, and storing a dead letter
 * twice changes nothing.
 */
export async function deadLetterUndecodable(
  term: LeaseTerm,
  open: InFlightWindow,
  undecodable: readonly Undecodable[],
): Promise<void> {
  const { definition, counters, parts } = term;
  const { stream } = definition.key;
  const died = new Date(parts.clock.now());
  const letters = undecodable.map(({ message, error }) => ({
    message,
    window: open.record.id,
    consumer: definition.label,
    attempts: 0,
    error: asError(stream, message, error).message,
    died,
  }));
  const stored = await bury(term, letters);
  const given = new Set(undecodable.map(({ message }) => message));
  open.readable = open.readable.filter((message) => !given.has(message));
  for (const { message, error } of undecodable.slice(0, 1)) {
    counters.failed(parts.clock.now(), asError(stream, message, error));
  }
  if (stored === 0) return;
  parts.log.error(
    `${definition.label}: gave up ${stored} of ${counted(open.messages.length, 'message')} of window ${open.record.id} that can't ` +
      `be decoded; ${stored === 1 ? 'it is a dead letter' : 'they are dead letters'} of '${stream}': ${letters[0]?.error}`,
  );
}

export function isDecodable(message: { read(): unknown }): boolean {
  try {
    message.read();
    return true;
  } catch {
    return false;
  }
}

function asError(stream: string, { id }: StoredMessage, error: unknown): MinibatchError {
  return new MinibatchError(
    ErrorCode.Undecodable,
    `message ${id} of '${stream}' can't be decoded: ${messageOf(error)}. No handler has seen it; its bytes are kept as they are`,
    { cause: error, details: { stream, message: id } },
  );
}
