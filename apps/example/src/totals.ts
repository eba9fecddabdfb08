import { isDeepStrictEqual } from 'node:util';
import { Injectable } from '@nestjs/common';
import { GROUPS } from './flight-report.js';
import { FlightFiles } from './flights.js';
import { Results } from './results.sink.js';
import { addByFile, type SumsByFile, sumsByFile } from './sums.js';

/** What the reports of one consumer add up to. */
export interface Total {
  readonly group: string;
  /** How many reports: one for each window. */
  readonly windows: number;
  readonly files: SumsByFile;
}

/** Adds up the reports that are kept: those of this run and of the runs before. */
@Injectable()
export class Totals {
  constructor(
    private readonly results: Results,
    private readonly replay: FlightFiles,
  ) {}

  async read(): Promise<readonly Total[]> {
    const all = await this.results.all();
    return GROUPS.map((group) => {
      const reports = all.filter((report) => report.group === group);
      return { group, windows: reports.length, files: reports.map(({ files }) => files).reduce(addByFile, {}) };
    });
  }

  /** Flights of the replayed files that every consumer has reported. */
  async reported(): Promise<number> {
    const counts = (await this.read()).map(({ files }) =>
      this.replay.files.reduce((count, { name }) => count + (files[name]?.count ?? 0), 0),
    );
    return Math.min(...counts);
  }

  /** Do the reports of every consumer add up to what the files say? */
  async exact(): Promise<boolean> {
    const expected = this.replay.files.map(({ flights }) => sumsByFile(flights)).reduce(addByFile, {});
    return (await this.read()).every(({ files }) =>
      Object.entries(expected).every(([file, sums]) => isDeepStrictEqual(files[file], sums)),
    );
  }
}
