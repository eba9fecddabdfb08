import type { EmitterContext } from '../windows/window-emitter.js';
import { CountWindow } from '../windows/count.window.js';

/** A batch that makes less than this part of what is committed together says that a larger one would do. */
const ROOM_FOR_MORE = 4;

/** Makes batches of messages, and smaller ones where what becomes of them is large. */
export class SizedBatches extends CountWindow {
  private largest = 1;

  override init(context: EmitterContext): void | Promise<void> {
    const done = super.init(context);
    this.largest = this.size;
    return done;
  }

  /** One was too large: so many messages at the most, from now on. */
  shrink(most: number): void {
    this.size = Math.min(this.size, most);
  }

  /** One is through. @param bytes that it has changed, of those that may be committed together */
  through(messages: number, bytes: number, limit: number): void {
    if (messages >= this.size && bytes * ROOM_FOR_MORE <= limit) this.size = Math.min(this.size * 2, this.largest);
  }
}
