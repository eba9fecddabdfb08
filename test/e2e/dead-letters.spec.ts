import 'reflect-metadata';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Injectable, type ModuleMetadata, type Provider } from '@nestjs/common';
import type { TestingModule } from '@nestjs/testing';
import {
  type DeadLetter,
  type DeadLetterFilter,
  ErrorCode,
  memoryStore,
  mongooseStore,
  RejectMessages,
  ResultRefused,
  type Sink,
  StatusService,
  type StoreChoice,
  type Stream,
  Streaming,
  type StreamingOptions,
  StreamService,
  type Window,
} from 'nestjs-minibatch';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { MinibatchHarness, MinibatchTestingModule, type MinibatchTestingOptions } from 'nestjs-minibatch/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { bootError, closeAll, later, mongoose, start, useDatabase } from './support/applications.js';

interface Row {
  readonly row: number;
}

/** Takes results; and says no as long as it is down. */
@Injectable()
class Delivered implements Sink<readonly number[]> {
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
abstract class Witness {
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
class Report extends Witness {
  @Streaming<Row, typeof Delivered>('rows', { size: 100, interval: '1s', sink: Delivered })
  handle(window: Window<Row>): readonly number[] {
    return this.check(window);
  }
}

const upTo = (count: number): Row[] => Array.from({ length: count }, (_, row) => ({ row }));
const numbers = (count: number): number[] => Array.from({ length: count }, (_, row) => row);
const ascending = (rows: readonly number[]): number[] => rows.toSorted((a, b) => a - b);
const rowsOf = (letters: readonly DeadLetter[]): number[] => letters.map(({ data }) => (data as Row).row);

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

afterEach(closeAll);

interface Place {
  readonly store: StoreChoice;
  readonly imports: NonNullable<ModuleMetadata['imports']>;
}

/** Each gives an empty place that one application after another may use. */
const PLACES: readonly (readonly [string, () => Place])[] = [
  [
    'memory',
    () => {
      const store = memoryStore().useFactory();
      return { store: { kind: 'memory', useFactory: () => store }, imports: [] };
    },
  ],
  [
    'LMDB',
    () => {
      const path = mkdtempSync(join(tmpdir(), 'minibatch-letters-'));
      later(async () => rmSync(path, { recursive: true, force: true }));
      return { store: lmdbStore({ path }), imports: [] };
    },
  ],
  ['MongoDB', () => ({ store: mongooseStore(), imports: [mongoose(useDatabase())] })],
];

describe.each(PLACES)('messages that are given up, in %s', (_, makePlace) => {
  let place: Place;
  beforeEach(() => {
    place = makePlace();
  });

  async function run(providers: Provider[], options: MinibatchTestingOptions = {}): Promise<Running> {
    const { store, imports } = place;
    const testing = MinibatchTestingModule.forRoot({ ...options, store });
    return new Running(await start({ imports: [...imports, testing], providers }));
  }

  it('one of 10,000: the others get through once, and it does when it is redriven', { timeout: 60_000 }, async () => {
    const running = await run([Report, Delivered]);
    const { app, harness, rows } = running;
    const { puts } = app.get(Delivered);
    const report = app.get(Report);
    report.bad.add(4_711);
    const born = harness.clock.now();
    const each = ({ row }: Row) => ({ key: `k${row}`, headers: { source: 'test' } });
    await harness.appendMany<Row>('rows', upTo(10_000), { each });
    // Five attempts, with their waits; then its window is taken apart.
    await harness.advance('1 minute');

    const delivered = app.get(Delivered).rows;
    expect(ascending(delivered)).toEqual(numbers(10_000).filter((row) => row !== 4_711));
    expect(new Set(puts.map(({ window }) => window)).size).toBe(puts.length);
    const [letter, ...more] = await running.letters();
    expect(more).toEqual([]);
    const whole = report.seen.find(({ data, attempt }) => attempt === 1 && data.some(({ row }) => row === 4_711));
    expect(letter).toEqual({
      id: expect.any(String) as string,
      stream: 'rows',
      group: 'default',
      messageId: whole?.messages.find(({ data }) => data.row === 4_711)?.id,
      created: new Date(born),
      data: { row: 4_711 },
      key: 'k4711',
      headers: { source: 'test' },
      window: whole?.id,
      consumer: 'Report.handle',
      attempts: 5,
      error: "can't handle 4711",
      stack: expect.stringContaining("Error: can't handle 4711") as string,
      died: expect.any(Date) as Date,
    });
    expect(Number(letter?.died)).toBeGreaterThan(born);
    expect(Number(letter?.died)).toBeLessThanOrEqual(harness.clock.now());
    expect(await running.status()).toMatchObject({
      stored: { buffered: 0, deadLetters: 1 },
      consumers: [{ stored: { pending: 0, openWindows: 0, messages: 10_000 }, local: { deadLettered: 1 } }],
    });
    expect(await running.health()).toEqual({ status: 'ok', reasons: [] });

    report.bad.clear();
    const runs = report.seen.length;
    expect(await rows.redrive()).toBe(1);
    await harness.flush('rows');
    expect(app.get(Delivered).rows.slice(9_999)).toEqual([4_711]);
    expect(report.seen.slice(runs)).toMatchObject([
      { attempt: 1, messages: [{ data: { row: 4_711 }, key: 'k4711', created: new Date(born) }] },
    ]);
    expect(await running.letters()).toEqual([]);
    expect(await running.status()).toMatchObject({ stored: { buffered: 0, deadLetters: 0 } });
  });

  @Injectable()
  class Fussy {
    readonly seen: (readonly number[])[] = [];

    @Streaming<Row, typeof Delivered>('rows', { size: 5, interval: '1s', sink: Delivered })
    handle(window: Window<Row>): readonly number[] {
      const good = window.messages.filter(({ data }) => data.row % 2 === 0);
      for (const message of window.messages) {
        if (!good.includes(message)) window.reject(message, new TypeError(`${message.data.row} is odd`));
      }
      const rows = good.map(({ data }) => data.row);
      this.seen.push(rows);
      return rows;
    }
  }

  it('rejected by window.reject: the sink has the result for the others, at once', async () => {
    const running = await run([Fussy, Delivered]);
    await running.harness.appendMany('rows', upTo(5));
    // No backoff: it was not the handler that failed.
    expect(running.app.get(Fussy).seen[0]).toEqual([0, 2, 4]);
    expect(running.app.get(Delivered).rows).toEqual([0, 2, 4]);
    expect(await running.letters()).toMatchObject([
      { data: { row: 1 }, error: '1 is odd', attempts: 1, stack: expect.stringContaining('TypeError') as string },
      { data: { row: 3 }, error: '3 is odd', attempts: 1 },
    ]);
    expect(await running.stored()).toEqual({ buffered: 0, deadLetters: 2 });
  });

  it('rejected by RejectMessages: the others are committed without a result', async () => {
    @Injectable()
    class Strict {
      readonly good: number[] = [];

      @Streaming<Row, typeof Delivered>('rows', { size: 4, sink: Delivered })
      handle(window: Window<Row>): readonly number[] {
        const bad = window.messages.filter(({ data }) => data.row > 1);
        this.good.push(...window.data.flatMap(({ row }) => (row > 1 ? [] : [row])));
        if (bad.length > 0) throw new RejectMessages(bad.map((message) => ({ message, reason: 'too large' })));
        return window.data.map(({ row }) => row);
      }
    }
    const running = await run([Strict, Delivered]);
    await running.harness.appendMany('rows', upTo(4));
    expect(running.app.get(Strict).good).toEqual([0, 1]);
    expect(running.app.get(Delivered).rows).toEqual([]);
    const letters = await running.letters();
    expect(letters).toMatchObject([
      { data: { row: 2 }, error: 'too large', consumer: 'Strict.handle' },
      { data: { row: 3 }, error: 'too large', consumer: 'Strict.handle' },
    ]);
    expect(letters[0]).not.toHaveProperty('stack');
    expect(await running.stored()).toEqual({ buffered: 0, deadLetters: 2 });
  });

  it('are read one after another, however many, and discarded by a filter', async () => {
    @Injectable()
    class Refusing {
      @Streaming<Row>('rows', { size: 50, interval: '1s' })
      handle(window: Window<Row>): void {
        for (const message of window.messages) window.reject(message, 'no');
      }
    }
    const running = await run([Refusing]);
    const { harness, rows } = running;
    await harness.appendMany('rows', upTo(150));
    await harness.advance('1 minute');
    const afterwards = new Date(harness.clock.now());
    await harness.appendMany('rows', upTo(250).slice(150));
    const all = await running.letters();
    expect(rowsOf(all)).toEqual(numbers(250));
    expect(new Set(all.map(({ id }) => id)).size).toBe(250);
    // Left early, and begun anew while letters go.
    const some: DeadLetter[] = [];
    for await (const letter of rows.deadLetters()) {
      some.push(letter);
      if (some.length === 120) break;
      if (some.length % 30 === 0) expect(await rows.discard({ ids: [letter.id] })).toBe(1);
    }
    expect(rowsOf(some)).toEqual(numbers(120));
    expect((await rows.stats()).deadLetters).toBe(247);

    expect(rowsOf(await running.letters({ before: afterwards })).length).toBe(147);
    expect(await running.letters({ group: 'other' })).toEqual([]);
    expect(await rows.discard({ group: 'other' })).toBe(0);
    expect(await rows.discard({ before: afterwards, ids: [all[0]!.id, all[200]!.id] })).toBe(1);
    expect(await rows.discard({ before: afterwards })).toBe(146);
    expect(rowsOf(await running.letters())).toEqual(numbers(250).slice(150));
    expect(await running.status()).toMatchObject({ stored: { buffered: 0, deadLetters: 100 } });
    expect(await rows.discard()).toBe(100);
    expect(await running.letters()).toEqual([]);
    expect(await rows.redrive()).toBe(0);
  });

  it('are not picked by a filter that makes no sense', async () => {
    const running = await run([Fussy, Delivered]);
    const { rows } = running;
    await running.harness.appendMany('rows', upTo(5));
    for (const filter of [{ grup: 'default' }, { ids: 'x' }, { ids: [1] }, { group: 1 }, { before: 'yesterday' }, []]) {
      const wrong = filter as DeadLetterFilter;
      const refused = { code: ErrorCode.InvalidOptions };
      await expect(rows.discard(wrong)).rejects.toMatchObject(refused);
      await expect(rows.redrive(wrong)).rejects.toMatchObject(refused);
      await expect(running.letters(wrong)).rejects.toMatchObject(refused);
    }
    expect(await running.stored()).toEqual({ buffered: 0, deadLetters: 2 });
  });

  it('come back to their own group alone', async () => {
    @Injectable()
    class Sales extends Witness {
      @Streaming<Row>('rows', { size: 10, interval: '1s', group: 'sales', retry: { attempts: 1 } })
      handle(window: Window<Row>): void {
        this.check(window);
      }
    }
    @Injectable()
    class Audit extends Witness {
      @Streaming<Row>('rows', { size: 4, interval: '1s', group: 'audit', retry: { attempts: 2 } })
      handle(window: Window<Row>): void {
        this.check(window);
      }
    }
    const running = await run([Sales, Audit]);
    const { app, harness, rows } = running;
    const [sales, audit] = [app.get(Sales), app.get(Audit)];
    sales.bad.add(3);
    audit.bad.add(3).add(5);
    await harness.appendMany('rows', upTo(12));
    await harness.advance('1 minute');
    const attempts = async (group: string) =>
      (await running.letters({ group })).map(({ data, attempts: runs }) => [(data as Row).row, runs]);
    expect(await attempts('sales')).toEqual([[3, 1]]);
    expect(await attempts('audit')).toEqual([
      [3, 2],
      [5, 2],
    ]);
    expect(await running.stored()).toEqual({ buffered: 0, deadLetters: 3 });

    sales.bad.clear();
    audit.bad.clear();
    const seen = [sales.seen.length, audit.seen.length] as const;
    const since = (witness: Witness, from: number) => witness.seen.slice(from).flatMap(({ data }) => data);
    expect(await rows.redrive({ group: 'audit' })).toBe(2);
    await harness.advance('2s');
    expect(since(audit, seen[1])).toEqual([{ row: 3 }, { row: 5 }]);
    expect(since(sales, seen[0])).toEqual([]);
    expect(await running.stored()).toEqual({ buffered: 0, deadLetters: 1 });

    expect(await rows.redrive()).toBe(1);
    await harness.advance('2s');
    expect(since(sales, seen[0])).toEqual([{ row: 3 }]);
    expect(since(audit, seen[1])).toHaveLength(2);
    expect(await running.stored()).toEqual({ buffered: 0, deadLetters: 0 });
  });

  it('go over to a consumer that replaces the group of theirs', async () => {
    @Injectable()
    class Former extends Witness {
      @Streaming<Row>('rows', { size: 3, interval: '1s', group: 'former', retry: { attempts: 1 } })
      handle(window: Window<Row>): void {
        this.bad.add(1);
        this.check(window);
      }
    }
    @Injectable()
    class Heir extends Witness {
      @Streaming<Row>('rows', { size: 3, interval: '1s', group: 'heir', replaces: 'former' })
      handle(window: Window<Row>): void {
        this.check(window);
      }
    }
    const before = await run([Former]);
    await before.harness.appendMany('rows', upTo(3));
    expect(rowsOf(await before.letters({ group: 'former' }))).toEqual([1]);
    await before.app.close();

    const running = await run([Heir]);
    expect(rowsOf(await running.letters({ group: 'heir' }))).toEqual([1]);
    expect(await running.letters({ group: 'former' })).toEqual([]);
    expect(await running.rows.redrive({ group: 'heir' })).toBe(1);
    await running.harness.advance('2s');
    expect(running.app.get(Heir).seen.map(({ data }) => data)).toEqual([[{ row: 1 }]]);
    expect(await running.stored()).toEqual({ buffered: 0, deadLetters: 0 });
  });

  it('are found by retry.timeout, which aborts the signal of a run that takes too long', async () => {
    @Injectable()
    class Slow {
      readonly reasons: unknown[] = [];
      readonly done: number[] = [];

      @Streaming<Row>('rows', { size: 2, retry: { attempts: 2, timeout: '5s', backoff: '1s', jitter: 0 } })
      async handle(window: Window<Row>): Promise<void> {
        if (window.data.some(({ row }) => row === 1)) {
          await new Promise((_, reject) => {
            window.signal.addEventListener('abort', () => {
              this.reasons.push(window.signal.reason);
              reject(new Error('aborted'));
            });
          });
        }
        this.done.push(...window.data.map(({ row }) => row));
      }
    }
    const running = await run([Slow]);
    const { harness } = running;
    const slow = running.app.get(Slow);
    await harness.appendMany('rows', upTo(2));
    await harness.advance(4_999);
    expect(slow.reasons).toEqual([]);
    await harness.advance(1);
    expect(slow.reasons).toMatchObject([{ code: ErrorCode.HandlerTimeout }]);
    expect(harness.status()[0]?.lastError?.code).toBe(ErrorCode.HandlerTimeout);
    expect(await running.letters()).toEqual([]);
    // The second attempt with both, then each alone; the slow one has two tries.
    await harness.advance('30s');
    expect(slow.done).toEqual([0]);
    expect(slow.reasons).toHaveLength(4);
    expect(await running.letters()).toMatchObject([
      { data: { row: 1 }, error: expect.stringContaining('did not settle within 5000 ms') as string, attempts: 2 },
    ]);
    expect(await running.stored()).toEqual({ buffered: 0, deadLetters: 1 });
  });

  it('keep the text of an error of megabytes, cut in bytes', async () => {
    @Injectable()
    class Wordy {
      @Streaming<Row>('rows', { size: 4, retry: { attempts: 2, backoff: '1s', jitter: 0 } })
      handle(window: Window<Row>): void {
        if (window.data.some(({ row }) => row === 2)) throw new Error('✈'.repeat(8_000_000));
      }
    }
    const running = await run([Wordy]);
    await running.harness.appendMany('rows', upTo(4));
    await running.harness.advance('10s');
    const [letter, ...others] = await running.letters();
    expect(others).toEqual([]);
    expect(letter).toMatchObject({ data: { row: 2 }, attempts: 2 });
    expect(letter?.error).toMatch(/^✈+ … \(\d+ bytes cut\)$/);
    expect(Buffer.byteLength(letter?.error ?? '')).toBeLessThanOrEqual(2_000);
    expect(Buffer.byteLength(letter?.stack ?? '')).toBeLessThanOrEqual(4_000);
    expect(letter?.stack).toContain('\n    at ');
    expect(Buffer.byteLength(JSON.stringify(await running.status()))).toBeLessThan(10_000);
    expect(await running.stored()).toEqual({ buffered: 0, deadLetters: 1 });
  });

  it('do not keep others from going on, also when each is alone in its window', async () => {
    @Injectable()
    class Single extends Witness {
      @Streaming<Row>('rows', { size: 1, retry: { jitter: 0 } })
      handle(window: Window<Row>): void {
        this.check(window);
      }
    }
    const running = await run([Single]);
    const single = running.app.get(Single);
    for (const row of [0, 1, 2, 9]) single.bad.add(row);
    await running.harness.appendMany('rows', upTo(30));
    await running.harness.advance('3 minutes');
    expect(ascending(rowsOf(await running.letters()))).toEqual([0, 1, 2, 9]);
    expect(await running.stored()).toEqual({ buffered: 0, deadLetters: 4 });
    expect(await running.health()).toEqual({ status: 'ok', reasons: [] });
  });

  it(
    'are found among thousands that all fail, without a limit of the store being met',
    { timeout: 120_000 },
    async () => {
      @Injectable()
      class Failing extends Witness {
        @Streaming<Row>('rows', { size: 6_000, retry: { attempts: 1 } })
        handle(window: Window<Row>): void {
          if (window.data.some(({ row }) => row < 6_000)) throw new Error(`no ${window.data[0]?.row}`);
        }
      }
      const running = await run([Failing]);
      await running.harness.appendMany('rows', upTo(12_000));
      const letters = await running.letters();
      expect(letters.map(({ data, error }) => [(data as Row).row, error])).toEqual(
        numbers(6_000).map((row) => [row, `no ${row}`]),
      );
      expect(await running.stored()).toEqual({ buffered: 0, deadLetters: 6_000 });
    },
  );

  it('are none when all of a window fail, which waits until it works', async () => {
    const running = await run([Report, Delivered]);
    const { app, harness } = running;
    const report = app.get(Report);
    for (const row of numbers(3)) report.bad.add(row);
    await harness.appendMany('rows', upTo(3));
    await harness.advance('5 minutes');
    expect(await running.stored()).toEqual({ buffered: 3, deadLetters: 0 });
    expect(harness.status()[0]).toMatchObject({ activity: 'blocked', deadLettered: 0 });
    const health = await running.health();
    expect(health).toMatchObject({ status: 'degraded', reasons: [{ what: 'consumer-blocked' }] });
    expect(health.reasons[0]?.message).toMatch(/^every message of a window of Report\.handle fails/);

    report.bad.clear();
    await harness.advance('61s');
    expect(app.get(Delivered).rows).toEqual([0, 1, 2]);
    expect(await running.stored()).toEqual({ buffered: 0, deadLetters: 0 });
    expect(await running.health()).toEqual({ status: 'ok', reasons: [] });
  });

  it('are those of a window that an operator gives up', async () => {
    const running = await run([Report, Delivered]);
    const { app, harness, rows } = running;
    for (const row of numbers(3)) app.get(Report).bad.add(row);
    await harness.appendMany('rows', upTo(3));
    await harness.advance('5 minutes');
    const [consumer] = (await running.status()).consumers;
    const window = consumer?.local?.setAside?.window ?? '';
    await expect(rows.giveUp({ group: 'none', window })).rejects.toMatchObject({ code: ErrorCode.UnknownGroup });
    await expect(rows.giveUp({ window: 'none' })).rejects.toMatchObject({ code: ErrorCode.UnknownWindow });
    await expect(rows.giveUp({ windows: [window] } as never)).rejects.toMatchObject({ code: ErrorCode.InvalidOptions });
    expect(await running.letters()).toEqual([]);
    await rows.giveUp({ window });
    await harness.advance(1);
    expect(rowsOf(await running.letters())).toEqual([0, 1, 2]);
    expect(await running.stored()).toEqual({ buffered: 0, deadLetters: 3 });
    expect(await running.health()).toEqual({ status: 'ok', reasons: [] });
    await expect(rows.giveUp({ window })).rejects.toMatchObject({ code: ErrorCode.UnknownWindow });
  });

  it('are none of a window that an operator lets go on without its sink', async () => {
    const running = await run([Report, Delivered]);
    const { app, harness, rows } = running;
    const sink = app.get(Delivered);
    const report = app.get(Report);
    sink.down = true;
    await harness.appendMany('rows', upTo(3));
    await harness.advance('1s');
    const window = report.seen[0]?.id ?? '';
    await expect(rows.skip({ window, sink: 'Mail' })).rejects.toMatchObject({
      code: ErrorCode.WindowNotBlocked,
      message: expect.stringContaining("but 'Delivered'"),
    });
    await expect(rows.skip({ window: 'none' })).rejects.toMatchObject({ code: ErrorCode.UnknownWindow });
    await expect(rows.skip({ window, sinks: [] } as never)).rejects.toMatchObject({ code: ErrorCode.InvalidOptions });
    await rows.skip({ window, sink: 'Delivered' });
    await harness.advance(1);
    expect(await running.stored()).toEqual({ buffered: 0, deadLetters: 0 });
    expect(sink.rows).toEqual([]);
    expect((await running.status()).consumers[0]?.local).toMatchObject({ skippedSinks: 1, committedMessages: 3 });

    report.bad.add(4);
    await harness.appendMany('rows', [{ row: 4 }]);
    await harness.advance('1s');
    const failing = report.seen.at(-1)?.id ?? '';
    await expect(rows.skip({ window: failing })).rejects.toMatchObject({
      code: ErrorCode.WindowNotBlocked,
      message: expect.stringContaining('Use giveUp if its method fails'),
    });
  });

  it("are all of a window with onAllFailed: 'deadLetter'", async () => {
    @Injectable()
    class Hasty extends Witness {
      @Streaming<Row>('rows', { size: 3, onAllFailed: 'deadLetter' })
      handle(window: Window<Row>): void {
        this.check(window);
      }
    }
    // What the consumer does not say is as the module says.
    const running = await run([Hasty], { retry: { attempts: 3, backoff: '10s', jitter: 0 } });
    const { app, harness } = running;
    for (const row of numbers(3)) app.get(Hasty).bad.add(row);
    await harness.appendMany('rows', upTo(6));
    await harness.advance(29_999);
    expect(await running.letters()).toEqual([]);
    await harness.advance(1);
    expect(await running.letters()).toMatchObject([
      { data: { row: 0 }, error: "can't handle 0", attempts: 3 },
      { data: { row: 1 }, error: "can't handle 1", attempts: 3 },
      { data: { row: 2 }, error: "can't handle 2", attempts: 3 },
    ]);
    expect(app.get(Hasty).seen.at(-1)?.data).toEqual([{ row: 3 }, { row: 4 }, { row: 5 }]);
    expect(await running.stored()).toEqual({ buffered: 0, deadLetters: 3 });
  });

  it.each(['block', 'deadLetter'] as const)(
    'are made of a result that no sink can take: onRefused %s',
    async (onRefused) => {
      const taken: unknown[] = [];
      const sink = {
        put(rows: readonly Row[]) {
          if (rows.some(({ row }) => row === 4)) throw new ResultRefused('no 4');
          taken.push(...rows);
        },
      };
      @Injectable()
      class Ledger {
        @Streaming('rows', { size: 6, sink, onRefused })
        handle({ data }: Window<Row>): readonly Row[] {
          return data;
        }
      }
      const running = await run([Ledger]);
      const { harness } = running;
      await harness.appendMany('rows', upTo(6));
      await harness.advance('10 minutes');
      if (onRefused === 'deadLetter') {
        expect(await running.letters()).toMatchObject([{ data: { row: 4 }, error: 'no 4 [MINIBATCH_RESULT_REFUSED]' }]);
        expect(taken).toHaveLength(5);
        expect(await running.health()).toEqual({ status: 'ok', reasons: [] });
      } else {
        expect(await running.stored()).toEqual({ buffered: 6, deadLetters: 0 });
        expect((await running.health()).reasons).toMatchObject([
          {
            what: 'consumer-blocked',
            message: expect.stringMatching(
              /^sink \S+ of Ledger\.handle refuses the result of window rows\/default\/\w+ since .*: no 4/,
            ),
          },
        ]);
      }
    },
  );

  it('are none while a sink is down for two minutes; then everything is delivered', async () => {
    const running = await run([Report, Delivered]);
    const { app, harness } = running;
    const sink = app.get(Delivered);
    sink.down = true;
    await harness.appendMany('rows', upTo(500));
    await harness.advance('2 minutes');
    expect(sink.puts).toEqual([]);
    expect(sink.tries).toBeGreaterThan(5);
    expect(await running.status()).toMatchObject({
      stored: { buffered: 500, deadLetters: 0 },
      consumers: [{ local: { activity: 'blocked', failures: 0, lastError: { code: ErrorCode.SinkFailed } } }],
    });
    expect((await running.health()).reasons[0]?.message).toMatch(
      /^sink Delivered of Report\.handle has not taken the result of window rows\/default\/\w+ since .*: the warehouse is down/,
    );

    sink.down = false;
    await harness.advance('1 minute');
    expect(sink.rows).toEqual(numbers(500));
    expect(await running.stored()).toEqual({ buffered: 0, deadLetters: 0 });
    // The results were kept: no window was handled again.
    expect(app.get(Report).seen).toHaveLength(5);
    expect(await running.health()).toEqual({ status: 'ok', reasons: [] });
  });
});

describe('options that say when a message is given up', () => {
  it.each([
    ['retry.attempts', { retry: { attempts: 0 } }, 'retry.attempts is 0; allowed: a whole number of at least 1'],
    ['retry.attempts', { retry: { attempts: 2.5 } }, 'retry.attempts is 2.5; allowed: a whole number of at least 1'],
    ['retry.timeout', { retry: { timeout: 'abc' } }, "retry.timeout is 'abc'; allowed: a whole number of milliseconds"],
    ['retry.timeout', { retry: { timeout: 0 } }, 'retry.timeout is 0; allowed: a whole number of milliseconds'],
    ['retry.onTimeout', { retry: { onTimeout: 'skip' } }, "retry.onTimeout is 'skip'; allowed: 'wait' or 'abandon'"],
    [
      'retry.sinkTimeout',
      { retry: { sinkTimeout: 0 } },
      'retry.sinkTimeout is 0; allowed: a whole number of milliseconds',
    ],
    ['onAllFailed', { onAllFailed: 'x' }, "onAllFailed is 'x'; allowed: 'evidence', 'block' or 'deadLetter'"],
    ['onRefused', { onRefused: 'x' }, "onRefused is 'x'; allowed: 'block' or 'deadLetter'"],
    ['onRefused', { onRefused: 'deadLetter' }, "onRefused is 'deadLetter'; allowed: together with sink"],
  ])('stop the boot when they make no sense: %s %j', async (option, options, message) => {
    @Injectable()
    class Wrong {
      @Streaming('rows', { size: 1, ...options } as StreamingOptions)
      handle(): void {}
    }
    const error = await bootError({ imports: [MinibatchTestingModule.forRoot()], providers: [Wrong] });
    expect(error).toMatchObject({
      code: ErrorCode.InvalidOptions,
      message: expect.stringContaining(`Wrong.handle: ${message}`) as string,
      details: { where: 'Wrong.handle', option },
    });
  });

  it('stop the boot in the module, too', async () => {
    const boot = () => start({ imports: [MinibatchTestingModule.forRoot({ retry: { attempts: 0, timeout: '1s' } })] });
    await expect(boot()).rejects.toMatchObject({
      code: ErrorCode.InvalidOptions,
      message: expect.stringContaining('MinibatchModule: retry.attempts is 0') as string,
    });
  });
});
