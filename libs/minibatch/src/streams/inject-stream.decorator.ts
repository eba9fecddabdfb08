import { type FactoryProvider, Inject } from '@nestjs/common';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { Stream } from './stream.js';
import { type StreamRef, streamName } from '../definitions/stream-ref.js';
import { StreamService } from './stream.service.js';

/**
 * The injection token of a stream's handle. Nest shows it where nothing provides the handle, so it is what has to be imported there:
 * `the argument "MinibatchModule.forFeature(['flights'])" at index [0] is not available in the ReportModule`.
 */
export function getStreamToken(stream: string | StreamRef): string {
  return `MinibatchModule.forFeature(['${streamName('getStreamToken', stream)}'])`;
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
    inject: [{ token: StreamService, optional: true }],
    useFactory: (service: StreamService | undefined) => {
      if (service) return service.stream(stream);
      throw new MinibatchError(
        ErrorCode.MissingModule,
        `${getStreamToken(stream)}: MinibatchModule.forRoot() is not imported: import it in the root module, or in this module too if it ` +
          'has isGlobal: false. If it is imported, forFeature is that of another copy of nestjs-minibatch: npm ls nestjs-minibatch shows them',
        { details: { stream: streamName('forFeature', stream) } },
      );
    },
  }));
}
