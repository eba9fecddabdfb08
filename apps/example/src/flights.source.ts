import { setTimeout } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { InjectStream, type Source, type SourceTarget, Stream, StreamSource } from 'nestjs-minibatch';
import { type Flight, FlightFiles, Flights } from './flights.js';
import { Options } from './options.js';

/** Flights that are appended together: one write, one position. */
const BATCH = 1000;

/** The source waits while more than these are in the stream: the consumers set the pace. */
const MOST_BUFFERED = 10_000;

/** Rows of each file that have been appended. */
type Position = Readonly<Record<string, number>>;

/** Replays the files into the stream. After a restart it resumes at its stored position. */
@Injectable()
@StreamSource(Flights)
export class FlightsSource implements Source<Flight> {
  constructor(
    private readonly replay: FlightFiles,
    private readonly options: Options,
    @InjectStream(Flights) private readonly flights: Stream<Flight>,
  ) {}

  async stream(target: SourceTarget<Flight>, signal: AbortSignal): Promise<void> {
    let position = ((await target.position()) ?? {}) as Position;
    for (const { name, flights } of this.replay.files) {
      for (let row = position[name] ?? 0; row < flights.length; row += BATCH) {
        await this.pause(signal);
        if (signal.aborted) return;
        const batch = flights.slice(row, row + BATCH);
        position = { ...position, [name]: row + batch.length };
        // The store keeps the position with the batch or after it, never before: a crash in between repeats the batch,
        // and the dedupe ids keep its flights from being counted twice.
        await target.appendMany(batch, { position, each: (_, i) => ({ dedupeId: `${name}:${row + i}` }) });
      }
    }
    // There is nothing to come that would complete the last windows.
    await this.flights.flush();
  }

  private async pause(signal: AbortSignal): Promise<void> {
    if (this.options.speed) await setTimeout((BATCH / this.options.speed) * 1000, undefined, { signal });
    while ((await this.flights.stats()).buffered > MOST_BUFFERED) await setTimeout(20, undefined, { signal });
  }
}
