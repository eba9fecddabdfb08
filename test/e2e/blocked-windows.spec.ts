import 'reflect-metadata';
import { Injectable } from '@nestjs/common';
import { ErrorCode, ResultRefused, Streaming, type Window } from 'nestjs-minibatch';
import { afterEach, expect, it } from 'vitest';
import { closeAll } from './support/applications.js';
import { Delivered, inEachStore, numbers, Report, type Row, rowsOf, upTo, Witness } from './support/dead-letters.js';

afterEach(closeAll);

inEachStore('dead letters of a window that cannot be finished', (run) => {
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

  it('are none of a window whose sink an operator skips', async () => {
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
