import { emitterFailed, type EmitterOwner } from './emitter-failure.js';
import type { MessageBuffer } from './message-buffer.js';
import type { BufferedMessage, Message } from './message.js';
import type { Selection, WindowEmitter } from './window-emitter.js';

/** A selection that was checked: its messages are those of the buffer. */
export interface CheckedSelection<M extends BufferedMessage = BufferedMessage> extends Omit<
  Selection,
  'take' | 'drop'
> {
  readonly take: readonly M[];
  readonly drop: readonly M[];
}

/**
 * Checks what a strategy's `query` returned: it may be anybody's code. Messages are known by their id, so copies of
 * them are taken for the originals.
 *
 * @throws MinibatchError `EmitterFailed`
 */
export function checkSelection<M extends BufferedMessage>(
  emitter: WindowEmitter,
  owner: EmitterOwner,
  buffer: MessageBuffer<M>,
  answer: unknown,
): CheckedSelection<M> {
  const fail = (what: string, messageId?: string) =>
    emitterFailed(emitter, owner, what, messageId === undefined ? {} : { messageId });
  const selection = shapeOf(answer);
  if (!selection) {
    throw fail(
      answer instanceof Promise
        ? 'returned a promise from query(). A strategy answers at once from what it is shown: make query() synchronous'
        : 'returned neither an array nor { take } from query(). Return the messages of the window; an empty array for none',
    );
  }
  for (const bound of ['start', 'end'] as const) {
    const time: unknown = selection[bound];
    if (time !== undefined && !(time instanceof Date && Number.isFinite(time.getTime()))) {
      throw fail(
        `returned from query() as ${bound} something that is not a valid Date (${time instanceof Date ? 'an invalid one' : typeof time})`,
      );
    }
  }

  const { take, drop = [], ...rest } = selection;
  // The usual case, without looking anything up.
  if (drop.length === 0 && buffer.startsWith(take)) return { ...rest, take: buffer.take(take.length), drop: [] };

  const chosen = new Map<string, 'take' | 'drop'>();
  const resolve = (message: Message | undefined, as: 'take' | 'drop'): M => {
    const id = message?.id;
    const known = id === undefined ? undefined : buffer.get(id);
    if (!known) {
      throw fail(
        `returned from query() to ${as} a message that it was not shown (id ${String(id)}). ` +
          'Return only what is in view.messages at that moment, and keep no messages from one call to the next',
        String(id),
      );
    }
    const before = chosen.get(known.id);
    if (before !== undefined) {
      throw fail(
        before === as
          ? `returned message ${known.id} twice from query() to ${as}. Return each message once`
          : `returned message ${known.id} from query() both to take and to drop. Choose one`,
        known.id,
      );
    }
    chosen.set(known.id, as);
    return known;
  };
  return {
    ...rest,
    take: take.map((message) => resolve(message, 'take')),
    drop: drop.map((message) => resolve(message, 'drop')),
  };
}

function shapeOf(answer: unknown): Selection | undefined {
  if (Array.isArray(answer)) return { take: answer };
  if (typeof answer !== 'object' || answer === null || !('take' in answer) || !Array.isArray(answer.take)) {
    return undefined;
  }
  if ('drop' in answer && answer.drop !== undefined && !Array.isArray(answer.drop)) return undefined;
  return answer as Selection;
}
