import 'reflect-metadata';
import { Injectable, type Provider } from '@nestjs/common';
import type { TestingModule } from '@nestjs/testing';
import {
  type DeadLetter,
  type DeadLetterFilter,
  type Sink,
  StatusService,
  type Stream,
  Streaming,
  StreamService,
  type Window,
} from 'nestjs-minibatch';
import { MinibatchHarness, MinibatchTestingModule, type MinibatchTestingOptions } from 'nestjs-minibatch/testing';
import { beforeEach, describe } from 'vitest';
import { start } from './applications.js';
import { type Place, PLACES } from './places.js';

export interface Row {
  readonly row: number;
}

/** Takes results; and says no as long as it is down. */
@Injectable()
export class Delivered implements Sink<readonly number[]> {
  readonly puts: { readonly window: string; readonly rows: readonly number[] }[] = [];
  down = false;
  tries = 0;

  put(rows: readonly number[], window: Window): void {
    this.tries += 1;
    if (this.down) throw new Error('the warehouse is down');
    this.puts.push({ window: window.id, rows });
  }

  get rows(): readonly number[] {
    return this.puts.flatMap(({ rows }) => rows);
  }
}

/** Windows as a consumer was given them. */
export abstract class Witness {
  readonly seen: Window<Row>[] = [];
  /** Rows that it can't handle. */
  readonly bad = new Set<number>();

  protected check(window: Window<Row>): readonly number[] {
    this.seen.push(window);
    const rows = window.data.map(({ row }) => row);
    for (const row of rows) if (this.bad.has(row)) throw new Error(`can't handle ${row}`);
    return rows;
  }
}

@Injectable()
export class Report extends Witness {
  @Streaming<Row, typeof Delivered>('rows', { size: 100, interval: '1s', sink: Delivered })
  handle(window: Window<Row>): readonly number[] {
    return this.check(window);
  }
}

export const upTo = (count: number): Row[] => Array.from({ length: count }, (_, row) => ({ row }));
export const numbers = (count: number): number[] => Array.from({ length: count }, (_, row) => row);
export const ascending = (rows: readonly number[]): number[] => rows.toSorted((a, b) => a - b);
export const rowsOf = (letters: readonly DeadLetter[]): number[] => letters.map(({ data }) => (data as Row).row);

/** An application by a clock that stands still, and what its tests look at. */
class Running {
  readonly harness: MinibatchHarness;
  readonly rows: Stream<Row>;

  constructor(readonly app: TestingModule) {
    this.harness = app.get(MinibatchHarness);
    this.rows = app.get(StreamService, { strict: false }).stream<Row>('rows');
  }

  async letters(filter?: DeadLetterFilter): Promise<DeadLetter[]> {
    const letters: DeadLetter[] = [];
    for await (const letter of this.rows.deadLetters(filter)) letters.push(letter);
    return letters;
  }

  status() {
    return this.app.get(StatusService, { strict: false }).stream('rows');
  }

  health() {
    return this.app.get(StatusService, { strict: false }).health();
  }

  /** What lies in the store: messages and dead letters. */
  async stored() {
    const { buffered, deadLetters } = await this.rows.stats();
    return { buffered, deadLetters };
  }
}

/** Starts an application in the test's place; several times, one after another. */
export type Run = (providers: Provider[], options?: MinibatchTestingOptions) => Promise<Running>;

/** Runs tests in each store, every one in a place of its own. */
export function inEachStore(what: string, tests: (run: Run) => void): void {
  describe.each(PLACES)(`${what}, in %s`, (_, makePlace) => {
    let place: Place;
    beforeEach(() => {
      place = makePlace();
    });

    tests(async (providers, options = {}) => {
      const { store, imports } = place;
      const testing = MinibatchTestingModule.forRoot({ ...options, store });
      return new Running(await start({ imports: [...imports, testing], providers }));
    });
  });
}
