// Filters 20,000 real flights and names the airports of those that were late: npm run example pipelines
import { readFile } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { defineStream, MinibatchModule, StreamService } from 'nestjs-minibatch';
import { from, Pipeline } from 'nestjs-minibatch/flow';
import { lmdbStore } from 'nestjs-minibatch/lmdb';

export interface Flight {
  readonly origin: string;
  readonly delay: number;
}
export interface LateFlight extends Flight {
  readonly city: string;
}

export const Flights = defineStream<Flight>('flights');
export const LateFlights = defineStream<LateFlight>('late-flights');
export const SmallDelays = defineStream<Flight>('small-delays');

/** From the npm package vega-datasets. */
const dataFile = (name: string) => readFile(new URL(`../data/${name}`, import.meta.resolve('vega-datasets')), 'utf8');

/** A service that takes its time, as a database would. */
@Injectable()
export class Airports {
  private cities: Promise<ReadonlyMap<string, string>> | undefined;

  async cityOf(code: string): Promise<string> {
    this.cities ??= this.read();
    return (await this.cities).get(code) ?? code;
  }

  private async read(): Promise<ReadonlyMap<string, string>> {
    const [, ...rows] = (await dataFile('airports.csv')).split('\n');
    return new Map(rows.map((row) => row.split(',')).map(([code = '', , city = '']) => [code, city]));
  }
}

@Injectable()
export class DelayPipeline {
  constructor(private readonly airports: Airports) {}

  @Pipeline('delays')
  delays() {
    const { late, rest } = from(Flights)
      .filter(({ delay }) => delay > 0)
      .branch({ late: ({ delay }) => delay >= 60 });
    return [
      late
        .map(async (flight) => ({ ...flight, city: await this.airports.cityOf(flight.origin) }))
        .to(LateFlights, { key: 'origin', concurrency: 20 }),
      rest.to(SmallDelays),
    ];
  }
}

export async function readFlights(): Promise<Flight[]> {
  const rows = JSON.parse(await dataFile('flights-20k.json')) as Flight[];
  return rows.map(({ origin, delay }) => ({ origin, delay }));
}

@Module({
  imports: [MinibatchModule.forRoot({ store: lmdbStore({ path: process.env.DATA ?? './data' }) })],
  providers: [Airports, DelayPipeline],
})
class AppModule {}

async function main(): Promise<void> {
  const app = await NestFactory.createApplicationContext(AppModule, { logger: ['log', 'error'] });
  const streams = app.get(StreamService);
  const flights = await readFlights();
  await streams.appendMany(Flights, flights);
  while ((await streams.stream(Flights).stats()).buffered > 0) await setTimeout(100);

  const late: LateFlight[] = [];
  for await (const { data } of streams.stream(LateFlights).messages()) late.push(data);
  const { buffered: small } = await streams.stream(SmallDelays).stats();
  const of = (test: (flight: Flight) => boolean) => flights.filter(test).length;
  console.log(`${flights.length} flights: where, in the streams, counted in the file`);
  console.table([
    { where: 'late-flights', stream: late.length, file: of(({ delay }) => delay >= 60) },
    { where: 'small-delays', stream: small, file: of(({ delay }) => delay > 0 && delay < 60) },
  ]);
  console.log('the five latest:');
  console.table(late.toSorted((a, b) => b.delay - a.delay).slice(0, 5));
  await app.close();
}

if (import.meta.filename === process.argv[1]) await main();
