import { Get, HttpException, HttpStatus, Inject, Param } from '@nestjs/common';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { StatusService } from './status.service.js';
import type { StatusSnapshot, StreamReport } from './status.types.js';

/**
 * The status as JSON. Extend it, so that it stands under your own path and guards; or have it served by the module's option
 * `statusController`.
 *
 * @example
 * ```ts
 * @Controller('ops/streams')
 * @UseGuards(AdminGuard)
 * export class StreamsController extends StatusController {}
 * ```
 */
export class StatusController {
  // By property: a subclass may have a constructor of its own.
  @Inject(StatusService) protected readonly status!: StatusService;

  /** All streams. */
  @Get()
  snapshot(): Promise<StatusSnapshot> {
    return this.status.snapshot();
  }

  /** One stream; 404 if there is none of that name, 503 if the store does not answer. */
  @Get('streams/:stream')
  async stream(@Param('stream') name: string): Promise<StreamReport> {
    try {
      return await this.status.stream(name);
    } catch (error) {
      throw error instanceof MinibatchError ? httpError(error) : error;
    }
  }
}

/** As Nest's own, with the code. */
function httpError(error: MinibatchError): HttpException {
  const { code, message } = error;
  const [statusCode, name] =
    code === ErrorCode.UnknownStream
      ? [HttpStatus.NOT_FOUND, 'Not Found']
      : [HttpStatus.SERVICE_UNAVAILABLE, 'Service Unavailable'];
  return new HttpException({ statusCode, message, error: name, code }, statusCode, { cause: error });
}
