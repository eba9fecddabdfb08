import { Injectable } from '@nestjs/common';
import { type Sink, Streaming, Window } from 'nestjs-minibatch';

export interface Flight {
  origin: string;
  delay: number;
}

export interface Report {
  flights: number;
  worst: number;
}

@Injectable()
export class Reports implements Sink<Report> {
  /** Resolves with the first report. */
  readonly first: Promise<Report>;
  private resolve!: (report: Report) => void;

  constructor() {
    this.first = new Promise((resolve) => (this.resolve = resolve));
  }

  put(report: Report): void {
    this.resolve(report);
  }
}

@Injectable()
export class FlightReport {
  @Streaming('flights', { size: 3, sink: Reports })
  summarize(window: Window<Flight>): Report {
    return { flights: window.data.length, worst: Math.max(...window.data.map((flight) => flight.delay)) };
  }
}
