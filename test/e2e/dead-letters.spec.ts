import 'reflect-metadata';
import { Injectable } from '@nestjs/common';
import { ErrorCode, RejectMessages, Streaming, type Window } from 'nestjs-minibatch';
import { afterEach, expect, it } from 'vitest';
import { closeAll } from './support/applications.js';
import {
  ascending,
  Delivered,
  inEachStore,
  numbers,
  Report,
  type Row,
  rowsOf,
  upTo,
  Witness,
} from './support/dead-letters.js';

afterEach(closeAll);

inEachStore('messages that are given up', (run) => {
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

  it('do not hold up others, also when each is alone in its window', async () => {
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
});
