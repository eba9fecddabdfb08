import { forwardRef, Injectable } from '@nestjs/common';
import { describe, expect, it } from 'vitest';
import type { Sink } from '../sinks/sink.interface.js';
import type { Duration } from '../definitions/shared.options.js';
import { defineStream } from '../definitions/stream-ref.js';
import { RelaxedTimeWindow } from '../windows/relaxed-time.window.js';
import { Window } from '../windows/window.js';
import { Streaming } from './streaming.decorator.js';
import type { StreamingOptions } from './streaming.options.js';

// Checked by `tsc --noEmit`: each `@ts-expect-error` fails the check if what follows does compile.

interface Flight {
  delay: number;
}
interface Report {
  worst: number;
}

@Injectable()
class Reports implements Sink<Report, Flight> {
  put(_report: Report, _window: Window<Flight>): void {}
}
@Injectable()
abstract class AbstractReports implements Sink<Report, Flight> {
  abstract put(report: Report, window: Window<Flight>): Promise<void>;
}
@Injectable()
class Numbers implements Sink<number> {
  put(_result: number): void {}
}
@Injectable()
class Anything implements Sink {
  put(): void {}
}

class Own extends RelaxedTimeWindow<Flight> {
  constructor(readonly reports: Reports) {
    super();
  }
}

const Flights = defineStream<Flight>('flights');

describe('what compiles', () => {
  it('accepts every kind of window, and sinks that take the result', () => {
    class Consumers {
      @Streaming('flights', { size: 100 })
      untyped(window: Window<Flight>) {
        return window.data;
      }
      @Streaming(Flights, { size: 100, interval: '2s', sink: Reports })
      count(_window: Window<Flight>): Report {
        return { worst: 1 };
      }
      @Streaming(Flights, { interval: 500, sink: AbstractReports, empty: true })
      async relaxed(_window: Window<Flight>): Promise<Report> {
        return { worst: 1 };
      }
      @Streaming(Flights, { interval: '1h', relaxed: false, offset: '6h', sink: [Reports, Anything] })
      fixed(_window: Window<Flight>): Report | undefined {
        return undefined;
      }
      @Streaming(Flights, { emitter: Own, size: 3, sink: new Numbers(), workers: 2, retry: { backoff: '1s' } })
      own(_window: Window<Flight>): number {
        return 1;
      }
      @Streaming(Flights, { size: 1, sink: forwardRef(() => Reports) })
      forwarded(_window: Window<Flight>): string {
        return '';
      }
      @Streaming(Flights, { size: 1, sink: 'TOKEN' })
      @Streaming('others', { size: 1, group: 'others', sink: Reports })
      twice(): void {}
    }
    expect(Consumers).toBeDefined();
  });

  it('accepts values that are known only at run time', () => {
    const of = (size: number, interval: Duration | undefined, period: Duration, relaxed: boolean) => {
      const options: StreamingOptions = { size, interval };
      return [
        Streaming(Flights, options),
        Streaming(Flights, { ...options, workers: 2 }),
        Streaming(Flights, { interval: period, relaxed }),
        Streaming(Flights, { emitter: Own, size, interval }),
      ];
    };
    expect(of(1, undefined, '1s', true)).toHaveLength(4);
  });

  it('refuses what does not fit', () => {
    class Consumers {
      // @ts-expect-error the window is of another type than the stream
      @Streaming(Flights, { size: 1 })
      otherMessages(_window: Window<{ name: string }>): void {}

      // @ts-expect-error the sink takes reports
      @Streaming(Flights, { size: 1, sink: Reports })
      otherResult(_window: Window<Flight>): number {
        return 1;
      }

      // @ts-expect-error the sink takes reports, in time too
      @Streaming(Flights, { size: 1, sink: Reports })
      async otherPromise(_window: Window<Flight>): Promise<number> {
        return 1;
      }

      // @ts-expect-error one of the sinks takes numbers
      @Streaming(Flights, { size: 1, sink: [Reports, Numbers] })
      otherOfList(_window: Window<Flight>): Report {
        return { worst: 1 };
      }

      // @ts-expect-error an instance takes numbers
      @Streaming(Flights, { size: 1, sink: new Numbers() })
      otherInstance(_window: Window<Flight>): string {
        return '';
      }
    }
    expect(Consumers).toBeDefined();
  });

  it('refuses options that are misspelled or mean nothing together', () => {
    const attempts = [
      // @ts-expect-error neither size nor interval nor emitter
      () => Streaming(Flights, {}),
      // @ts-expect-error misspelled
      () => Streaming(Flights, { sice: 1 }),
      // @ts-expect-error misspelled next to a sink
      () => Streaming(Flights, { size: 1, sink: Reports, wrokers: 1 }),
      // @ts-expect-error relaxed without interval
      () => Streaming(Flights, { relaxed: true }),
      // @ts-expect-error relaxed with size
      () => Streaming(Flights, { size: 1, interval: '1s', relaxed: false }),
      // @ts-expect-error grace belongs to fixed windows
      () => Streaming(Flights, { interval: '1s', grace: '1s' }),
      // @ts-expect-error lookAhead belongs to a custom emitter
      () => Streaming(Flights, { size: 1, lookAhead: 5 }),
      // @ts-expect-error no duration
      () => Streaming(Flights, { interval: 'soon' }),
      // @ts-expect-error an instance serves one consumer only
      () => Streaming(Flights, { emitter: new RelaxedTimeWindow() }),
      // @ts-expect-error no strategy
      () => Streaming(Flights, { emitter: Reports }),
      // @ts-expect-error no sink
      () => Streaming(Flights, { size: 1, sink: Own }),
      // @ts-expect-error a number of messages
      () => Streaming(Flights, { size: '100' }),
    ];
    expect(attempts).toHaveLength(12);
  });
});
