import { messageOf } from '../errors/error-text.js';
import type { Message } from '../windows/message.js';
import type { DeadLetter, MessageId, StoredMessage } from './stream-store.interface.js';

/**
 * A message as bytes. They stay what they are until its window has left: every attempt, every sink and every dead letter begins from
 * them. Everything is decoded on demand, so a message that waits costs the garbage collector one object.
 */
export abstract class LazyMessage implements StoredMessage {
  abstract readonly id: MessageId;
  abstract readonly created: Date;
  abstract readonly bytes: number;
  declare deduped?: boolean;
  declare redriven?: boolean;
  declare cleared?: boolean;
  #shared: Message | undefined;

  abstract read(): Message;

  get data(): unknown {
    return this.shared?.data;
  }

  get key(): string | undefined {
    return this.shared?.key;
  }

  get headers(): Readonly<Record<string, string>> | undefined {
    return this.shared?.headers;
  }

  /** One copy for everyone who reads this object; only the consumer's strategy does. */
  private get shared(): Message | undefined {
    // What prints and compares objects asks the prototype, too.
    if (!(#shared in this)) return undefined;
    return (this.#shared ??= this.read());
  }
}

/** What a dead letter shows of its message: what can't be decoded is left out, and why is said. */
export function shownOf(
  read: () => Omit<Message, 'id' | 'created'>,
): Pick<DeadLetter, 'data' | 'key' | 'headers' | 'undecodable'> {
  try {
    const { data, key, headers } = read();
    return { data, ...(key !== undefined && { key }), ...(headers !== undefined && { headers }) };
  } catch (error) {
    return { data: undefined, undecodable: messageOf(error) };
  }
}
