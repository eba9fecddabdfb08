import type { MessageId } from '../stream-store.interface.js';
import { MemoryStream } from './memory.stream.js';

/**
 * What several `MemoryStreamStore`s share, as processes share a database server: `new MemoryStreamStore(database)` is one process.
 */
export class MemoryDatabase {
  /** @internal */
  readonly streams = new Map<string, MemoryStream>();
  private lastId = 0;

  /** One sequence for all streams, so that the messages of a stream that was dropped and created again have other ids. @internal */
  nextId(): MessageId {
    this.lastId += 1;
    return this.lastId.toString(16).padStart(14, '0');
  }

  /** @internal */
  ensure(name: string): MemoryStream {
    let stream = this.streams.get(name);
    if (stream === undefined) {
      stream = new MemoryStream(name, this.nextId());
      this.streams.set(name, stream);
    }
    return stream;
  }

  /** By name; those that exist. @internal */
  pick(names: readonly string[] | undefined): MemoryStream[] {
    return [...(names === undefined ? this.streams.keys() : new Set(names))]
      .sort()
      .map((name) => this.streams.get(name))
      .filter((stream) => stream !== undefined);
  }
}
