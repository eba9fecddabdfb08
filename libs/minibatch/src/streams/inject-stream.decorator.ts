import { type FactoryProvider, Inject } from '@nestjs/common';
import type { Stream } from './stream.js';
import { type StreamRef, streamName } from '../definitions/stream-ref.js';
import { StreamService } from './stream.service.js';

/** The injection token of a stream's handle. */
export function getStreamToken(stream: string | StreamRef): string {
  return `MINIBATCH_STREAM:${streamName('getStreamToken', stream)}`;
}

/**
 * Injects the handle of a stream that was named in `MinibatchModule.forFeature([…])`.
 *
 * @example
 * ```ts
 * constructor(@InjectStream(Flights) private readonly flights: Stream<Flight>) {}
 * ```
 */
export function InjectStream(stream: string | StreamRef): ParameterDecorator & PropertyDecorator {
  return Inject(getStreamToken(stream));
}

export function streamProviders(streams: readonly (string | StreamRef)[]): FactoryProvider<Stream>[] {
  return streams.map((stream) => ({
    provide: getStreamToken(stream),
    inject: [StreamService],
    useFactory: (service: StreamService) => service.stream(stream),
  }));
}
