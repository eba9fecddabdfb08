import { Inject, Injectable } from '@nestjs/common';
import { STREAM_HUB } from '../common/tokens.js';
import type { StreamInfo } from '../storage/stream-store.interface.js';
import type { AppendResult } from './append-result.js';
import type { Stream } from './stream.js';
import type { AppendManyOptions, AppendMessageOptions } from './stream-operations.js';
import type { RemovalOptions } from './removal.js';
import type { StreamHub } from './stream-hub.js';
import type { StreamRef } from '../definitions/stream-ref.js';

/**
 * Appends to streams, by name or by what `defineStream` made.
 *
 * @example
 * ```ts
 * constructor(private readonly streams: StreamService) {}
 * await this.streams.append('flights', { origin: 'SAT', delay: 25 });
 * ```
 */
@Injectable()
export class StreamService {
  constructor(@Inject(STREAM_HUB) private readonly hub: StreamHub) {}

  /** See {@link Stream.append}. @throws AppendError */
  append<T = unknown>(
    stream: string | StreamRef<T>,
    data: NoInfer<T>,
    options?: AppendMessageOptions,
  ): Promise<AppendResult> {
    return this.hub.stream<T>(stream).append(data, options);
  }

  /** See {@link Stream.appendMany}. @throws AppendError */
  appendMany<T = unknown>(
    stream: string | StreamRef<T>,
    data: readonly NoInfer<T>[],
    options?: AppendManyOptions<NoInfer<T>>,
  ): Promise<readonly AppendResult[]> {
    return this.hub.stream<T>(stream).appendMany(data, options);
  }

  /** The handle of a stream; always the same one for a name. The stream need not be there yet. */
  stream<T = unknown>(stream: string | StreamRef<T>): Stream<T> {
    return this.hub.stream(stream);
  }

  /** The streams in the store, by name. */
  streams(): Promise<readonly StreamInfo[]> {
    return this.hub.list();
  }

  /** See {@link Stream.removeGroup}. @throws MinibatchError `GroupInUse`, `UnknownStream`, `UnknownGroup`, `InvalidOptions` */
  removeGroup(stream: string | StreamRef, group: string, options?: RemovalOptions): Promise<void> {
    return this.hub.stream(stream).removeGroup(group, options);
  }
}
