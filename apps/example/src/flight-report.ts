import { Injectable } from '@nestjs/common';
import { Streaming, Window } from 'nestjs-minibatch';
import { type Flight, Flights } from './flights.js';
import { type Report, Results } from './results.sink.js';
import { sumsByFile } from './sums.js';

/** The consumers. Their progress is stored under these names. */
export const GROUPS = ['thousands', 'timeline'] as const;

/** Two consumers of one stream: each sees every flight, and what they return goes to their sink. */
@Injectable()
export class FlightReport {
  @Streaming(Flights, { group: 'thousands', size: 1000, sink: Results })
  everyThousand({ group, data }: Window<Flight>): Report {
    return { group, files: sumsByFile(data) };
  }

  @Streaming(Flights, { group: 'timeline', interval: '500ms', sink: Results })
  everyHalfSecond({ group, start, end, data }: Window<Flight>): Report {
    return { group, start, end, files: sumsByFile(data) };
  }
}
