import { randomBytes } from 'node:crypto';
import { mongo } from 'mongoose';
import type { MessageId } from '../stream-store.interface.js';

const COUNTER_END = 2 ** 24;
/** Each byte in hexadecimal. */
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

/**
 * Creates the ids of messages: ObjectIds that increase with every call, even if the clock goes back or a second has more messages than the
 * counter can number. The driver's ids guarantee neither, and `fetch` returns messages in the order of their ids.
 */
export class MessageIds {
  /** Distinguishes this process from all others. */
  private readonly origin = randomBytes(5);
  private second = 0;
  private counter = 0;
  /** Bytes 0 to 8 of the ids of the second, in hexadecimal. */
  private prefix = '';

  constructor(private readonly now: () => number = Date.now) {}

  /** Bytes 4 to 8 in hexadecimal, which all of its ids have in common. */
  get originHex(): string {
    return this.origin.toString('hex');
  }

  next(): mongo.ObjectId {
    const second = Math.floor(this.now() / 1000);
    if (second > this.second) this.begin(second);
    // Borrowed from the next second.
    else if (this.counter === COUNTER_END) this.begin(this.second + 1);
    const { counter } = this;
    const bytes = Buffer.allocUnsafe(12);
    bytes.writeUInt32BE(this.second, 0);
    // Byte by byte: a call into the runtime costs more than the five of them.
    for (let index = 0; index < 5; index += 1) bytes[4 + index] = this.origin[index] ?? 0;
    bytes[9] = counter >> 16;
    bytes[10] = counter >> 8;
    bytes[11] = counter;
    this.counter += 1;
    return new mongo.ObjectId(bytes);
  }

  /** The id that was created last, in hexadecimal; `toHexString` calls into the runtime, which takes several times as long. */
  get lastHex(): MessageId {
    const last = this.counter - 1;
    return this.prefix + HEX[last >> 16] + HEX[(last >> 8) & 255] + HEX[last & 255];
  }

  private begin(second: number): void {
    this.second = second;
    this.counter = 0;
    this.prefix = second.toString(16).padStart(8, '0') + this.originHex;
  }
}

/** One for the process, not for each store: messages of one process keep their order whichever store appends them. */
export const messageIds = new MessageIds();

export function toObjectId(id: MessageId): mongo.ObjectId {
  return mongo.ObjectId.createFromHexString(id);
}
