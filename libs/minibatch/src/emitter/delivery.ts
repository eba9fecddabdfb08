import { ErrorCode, messageOf } from '../errors/minibatch.error.js';
import { backoff } from '../internal/backoff.js';
import { delay } from '../internal/clock.js';
import type { BatchWindow } from './batch-window.js';
import type { NamedSink } from './emitter.interface.js';
import { type OpenWindow, stopSignal } from './open-window.js';
import type { Tenure } from './tenure.js';

/** What became of a result: every sink has it, an operator gave its window up, or the tenure is over. */
export type Delivered = 'delivered' | 'given up' | 'void';

/** Hands results to sinks. A sink that fails is tried again until it takes the result: the messages are not to blame. */
export class Delivery {
  /** Sinks that did not take their result. */
  private blockedSinks = 0;

  constructor(private readonly tenure: Tenure) {}

  get blocked(): boolean {
    return this.blockedSinks > 0;
  }

  async deliver(open: OpenWindow, result: unknown, window: BatchWindow): Promise<Delivered> {
    const { definition, parts } = this.tenure;
    if (definition.sinks.length === 0) return 'delivered';
    const puts = definition.sinks.map((sink) =>
      parts.activity.track(() => this.put(open, sink, result, window.view())),
    );
    const done = await parts.activity.aside(Promise.all(puts));
    return done.find((each) => each !== 'delivered') ?? 'delivered';
  }

  private async put(
    open: OpenWindow,
    { name, sink }: NamedSink,
    result: unknown,
    window: BatchWindow,
  ): Promise<Delivered> {
    const { definition, counters, parts, over } = this.tenure;
    let failures = 0;
    try {
      for (;;) {
        if (!(await this.tenure.isSure())) return 'void';
        if (failures > 0 && open.givenUp) return 'given up';
        try {
          await sink.put(result, window);
          return 'delivered';
        } catch (error) {
          failures += 1;
          counters.sinkFailures += 1;
          counters.failed(parts.clock.now(), error, ErrorCode.SinkFailed);
          if (failures === 1) {
            this.blockedSinks += 1;
            parts.log.warn(
              `${definition.label}: sink ${name} did not take the result of window ${window.id}, ` +
                `trying again until it does: ${messageOf(error)} [${ErrorCode.SinkFailed}]`,
            );
          }
          const wait = backoff(definition.retry, failures);
          await parts.activity.aside(delay(parts.clock, wait, stopSignal(open, over.signal)));
        }
      }
    } finally {
      if (failures > 0) this.blockedSinks -= 1;
    }
  }
}
