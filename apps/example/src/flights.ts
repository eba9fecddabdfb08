import { readFile } from 'node:fs/promises';
import { defineStream } from 'nestjs-minibatch';

/** A flight as it lies in the data files, and the name of its file. */
export interface Flight {
  readonly file: string;
  readonly delay: number;
  readonly distance: number;
  readonly date?: string;
  readonly origin?: string;
  readonly destination?: string;
  readonly time?: number;
}

/** Name and message type of the stream, for all who append or consume. */
export const Flights = defineStream<Flight>('flights');

export interface FlightFile {
  readonly name: string;
  readonly flights: readonly Flight[];
}

/** The files to be replayed, in this order. */
export class FlightFiles {
  constructor(readonly files: readonly FlightFile[]) {}

  get total(): number {
    return this.files.reduce((total, { flights }) => total + flights.length, 0);
  }

  /** Reads them from the npm package vega-datasets. */
  static async read(names: readonly string[]): Promise<FlightFiles> {
    return new FlightFiles(await Promise.all(names.map(readFlights)));
  }
}

async function readFlights(name: string): Promise<FlightFile> {
  const url = new URL(`../data/${name}.json`, import.meta.resolve('vega-datasets'));
  const rows = JSON.parse(await readFile(url, 'utf8')) as Omit<Flight, 'file'>[];
  return { name, flights: rows.map((row) => ({ file: name, ...row })) };
}
