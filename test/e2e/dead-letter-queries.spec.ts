import 'reflect-metadata';
import { Injectable } from '@nestjs/common';
import { type DeadLetter, type DeadLetterFilter, ErrorCode, Streaming, type Window } from 'nestjs-minibatch';
import { afterEach, expect, it } from 'vitest';
import { closeAll } from './support/applications.js';
import { Delivered, inEachStore, numbers, type Row, rowsOf, upTo, Witness } from './support/dead-letters.js';

afterEach(closeAll);

inEachStore('dead letters', (run) => {
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
});
