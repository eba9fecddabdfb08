import { Get, Inject, NotFoundException, Param } from '@nestjs/common';
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

  /** One stream; 404 if there is none of that name. */
  @Get(':stream')
  async stream(@Param('stream') name: string): Promise<StreamReport> {
    try {
      return await this.status.stream(name);
    } catch (error) {
      if (error instanceof MinibatchError && error.code === ErrorCode.UnknownStream) {
        throw new NotFoundException(error.message, { cause: error });
      }
      throw error;
    }
  }
}
