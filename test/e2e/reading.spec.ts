import 'reflect-metadata';
import { Injectable, type Provider } from '@nestjs/common';
import { type MessageFilter, Streaming, StreamService, type Window, type WindowFilter } from 'nestjs-minibatch';
import { MinibatchHarness, MinibatchTestingModule } from 'nestjs-minibatch/testing';
import { afterEach, describe, expect, it } from 'vitest';
import { closeAll, start } from './support/applications.js';
import { PLACES } from './support/places.js';

interface Row {
  readonly row: number;
}

/** Keeps what it commits, and fails as long as it is told to. */
@Injectable()
class Report {
  readonly rows: number[] = [];
  failing = false;

  @Streaming<Row>('rows', { size: 3, group: 'report', keep: true })
  handle({ data }: Window<Row>): void {
    if (this.failing) throw new Error('the report is down');
    this.rows.push(...data.map(({ row }) => row));
  }
}

@Injectable()
class Audit {
  readonly rows: number[] = [];

  @Streaming<Row>('rows', { size: 4, group: 'audit' })
  handle({ data }: Window<Row>): void {
    this.rows.push(...data.map(({ row }) => row));
  }
}

const rows = (from: number, to: number): Row[] => Array.from({ length: to - from }, (_, n) => ({ row: from + n }));

afterEach(closeAll);

describe.each(PLACES)('what lies in a stream, in %s', (_, makePlace) => {
  async function boot(providers: Provider[]) {
    const { store, imports } = makePlace();
    const app = await start({ imports: [...imports, MinibatchTestingModule.forRoot({ store })], providers });
    const stream = app.get(StreamService, { strict: false }).stream<Row>('rows');
    const messages = async (filter?: MessageFilter) => {
      const found = [];
      for await (const message of stream.messages(filter)) found.push(message);
      return found;
    };
    return {
      app,
      harness: app.get(MinibatchHarness),
      stream,
      messages,
      shown: async (filter?: MessageFilter) =>
        (await messages(filter)).map(({ data, state }) => `${data.row} ${state}`),
      windows: async (filter?: WindowFilter) => {
        const found = [];
        for await (const window of stream.windows(filter)) found.push(window);
        return found;
      },
    };
  }

  it('is shown while a consumer works on it, which continues as if nobody had looked', async () => {
    const { app, harness, messages, shown, windows } = await boot([Report]);
    const report = app.get(Report);
    const each = ({ row }: Row) => ({ key: `k${row}`, headers: { source: 'test' } });
    await harness.appendMany<Row>('rows', rows(0, 3), { each });
    report.failing = true;
    await harness.appendMany<Row>('rows', rows(3, 8), { each });
    const kept = ['0 kept', '1 kept', '2 kept'];
    const claimed = ['3 claimed', '4 claimed', '5 claimed'];
    const waiting = ['6 waiting', '7 waiting'];
    expect(await shown()).toEqual([...kept, ...claimed, ...waiting]);
    expect(await shown({ group: 'report' })).toEqual([...kept, ...claimed, ...waiting]);
    expect(await shown({ state: 'kept' })).toEqual(kept);
    expect(await shown({ state: 'claimed' })).toEqual(claimed);
    expect(await shown({ state: 'waiting' })).toEqual(waiting);
    const all = await messages();
    expect(await shown({ after: all[4]!.id })).toEqual(['5 claimed', ...waiting]);
    expect(all[6]).toEqual({
      id: expect.any(String) as string,
      data: { row: 6 },
      key: 'k6',
      headers: { source: 'test' },
      created: expect.any(Date) as Date,
      state: 'waiting',
      bytes: expect.any(Number) as number,
    });

    const [open, committed, ...more] = await windows();
    expect(more).toEqual([]);
    expect(open).toMatchObject({
      group: 'report',
      state: 'claimed',
      messageIds: all.slice(3, 6).map(({ id }) => id),
      attempt: 2,
      error: 'the report is down',
      nextTry: expect.any(Date) as Date,
    });
    expect(committed).toMatchObject({
      group: 'report',
      state: 'kept',
      messageIds: all.slice(0, 3).map(({ id }) => id),
      committed: expect.any(Date) as Date,
    });

    report.failing = false;
    await harness.advance('1 minute');
    await harness.append('rows', { row: 8 });
    expect(report.rows).toEqual(rows(0, 9).map(({ row }) => row));
    expect(await shown({ state: 'kept' })).toEqual(rows(0, 9).map(({ row }) => `${row} kept`));
    expect((await windows({ state: 'kept' })).map(({ id }) => id)).toContain(open!.id);
  });

  it('is another thing for each group', async () => {
    const { harness, shown, windows } = await boot([Report, Audit]);
    await harness.appendMany<Row>('rows', rows(0, 5));
    // The report has committed 0, 1 and 2, and the audit 0 to 3.
    expect(await shown({ group: 'report' })).toEqual(['0 kept', '1 kept', '2 kept', '3 waiting', '4 waiting']);
    expect(await shown({ group: 'audit', state: 'waiting' })).toEqual(['4 waiting']);
    expect(await shown()).toEqual(['0 kept', '1 kept', '2 kept', '3 waiting', '4 waiting']);
    expect((await windows()).map(({ group, state }) => [group, state])).toEqual([['report', 'kept']]);
    expect(await windows({ group: 'audit' })).toEqual([]);
  });

  it('is handed to one group again, which runs meanwhile, and to no other', async () => {
    const { app, harness, stream, shown } = await boot([Report, Audit]);
    await harness.appendMany<Row>('rows', rows(0, 12));
    const kept = rows(0, 12).map(({ row }) => `${row} kept`);
    expect(await shown()).toEqual(kept);
    const [report, audit] = [app.get(Report), app.get(Audit)];
    const all = await Promise.all([report, audit].map(async (each) => [...each.rows]));
    expect(all.map((each) => each.toSorted((a, b) => a - b))).toEqual(
      [rows(0, 12), rows(0, 12)].map((each) => each.map(({ row }) => row)),
    );

    expect(await stream.replay({ group: 'report' })).toBe(12);
    await harness.settled();
    expect(report.rows.slice(12)).toEqual(rows(0, 12).map(({ row }) => row));
    expect(audit.rows).toHaveLength(12);
    expect((await stream.stats()).buffered).toBe(0);
    expect(await shown()).toEqual(kept);

    // Once more, while it fails: another call passes over what waits.
    report.failing = true;
    const ids = [];
    for await (const { id } of stream.messages()) ids.push(id);
    expect(await stream.replay({ group: 'report', from: ids[3]!, to: ids[9]! })).toBe(6);
    expect(await stream.replay({ group: 'report', to: ids[6]! })).toBe(3);
    report.failing = false;
    await harness.advance('1 minute');
    expect(report.rows.slice(24)).toEqual([3, 4, 5, 6, 7, 8, 0, 1, 2]);
    expect(audit.rows).toHaveLength(12);
    expect(await shown()).toEqual(kept);
  });

  it('is read in pages, as much as there is, and no further than somebody wants', async () => {
    const { harness, stream, shown } = await boot([]);
    await harness.appendMany<Row>('rows', rows(0, 2_500));
    expect(await shown()).toEqual(rows(0, 2_500).map(({ row }) => `${row} waiting`));
    for await (const { data } of stream.messages()) if (data.row === 1_200) break;
    expect((await stream.stats()).buffered).toBe(2_500);
  });
});
