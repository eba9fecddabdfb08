import { describe, expect, it } from 'vitest';
import { ResultRefused } from '../errors/minibatch.error.js';
import { health } from './health.js';
import { reportStreams } from './status.report.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { Process, STREAM } from '../engine/process.spec.support.js';

const failing = (name: string, error: () => Error | undefined) => ({
  name,
  sink: {
    put: () => {
      const thrown = error();
      if (thrown) throw thrown;
    },
  },
});

async function report(p: Process) {
  const streams = reportStreams(await p.store.stats([STREAM]), p.engine.status(), []);
  const at = new Date(p.clock.now()).toISOString();
  return { streams, ...health({ at, store: { name: 'memory', wakeUps: 'polling' }, streams }) };
}

async function stop(p: Process): Promise<void> {
  const stopping = p.engine.stop(0);
  await p.clock.advance(10_000);
  await stopping;
}

describe('a window that sinks keep', () => {
  it('is named with each of them, since when, how often they were tried, and what to do', async () => {
    let ledger: Error | undefined = new Error('ledger is full');
    let mail: Error | undefined = new ResultRefused('too long');
    const p = await new Process(new MemoryDatabase())
      .consumer({
        size: 1,
        retry: { base: 1_000, max: 1_000, jitter: 0, attempts: 5 },
        handler: ({ data }) => data[0],
        sinks: [failing('Ledger', () => ledger), failing('Mail', () => mail), failing('Log', () => undefined)],
      })
      .start();
    await p.advance(500);
    await p.append(1);
    const since = new Date(p.clock.now());
    await p.advance(2_500);
    const window = p.seen[0]?.id ?? '';
    expect(p.engine.status()[0]).toMatchObject({
      activity: 'blocked',
      blockedSinks: [
        { window, sink: 'Ledger', since, attempts: 3, error: 'ledger is full' },
        { window, sink: 'Mail', since, attempts: 3, refused: true, error: expect.stringContaining('too long') },
      ],
    });
    const { streams, reasons } = await report(p);
    expect(streams[0]?.consumers[0]?.local?.blockedSinks).toEqual([
      { window, sink: 'Ledger', since: since.toISOString(), attempts: 3, error: 'ledger is full' },
      expect.objectContaining({ sink: 'Mail', since: since.toISOString(), refused: true }),
    ]);
    const of = (sink: string) => `skip({ group: 'default', window: '${window}', sink: '${sink}' })`;
    expect(reasons).toEqual([
      {
        what: 'consumer-blocked',
        stream: STREAM,
        group: 'default',
        message:
          `sink Ledger of Test.default has not taken the result of window ${window} since ${since.toISOString()} (3 tries): ` +
          `ledger is full. It is retried; to skip it: ${of('Ledger')}`,
      },
      { what: 'consumer-blocked', stream: STREAM, group: 'default', message: expect.stringContaining(of('Mail')) },
    ]);
    expect(reasons[1]?.message).toContain("onRefused: 'deadLetter'");

    ledger = undefined;
    await p.advance(1_000);
    expect(p.engine.status()[0]?.blockedSinks).toEqual([expect.objectContaining({ sink: 'Mail', attempts: 4 })]);
    mail = undefined;
    await p.advance(1_000);
    expect(p.engine.status()[0]).not.toHaveProperty('blockedSinks');
    expect((await report(p)).reasons).toEqual([]);
    await stop(p);
  });

  it('is named whole when a part of it is blocked', async () => {
    let bad = true;
    const p = await new Process(new MemoryDatabase())
      .consumer({
        size: 2,
        retry: { base: 1_000, max: 1_000, jitter: 0, attempts: 1 },
        handler: ({ data }) => {
          if (data.includes(2)) throw new Error('bad');
          return data[0];
        },
        sinks: [failing('Ledger', () => (bad ? new Error('away') : undefined))],
      })
      .start();
    await p.append(1, 2);
    await p.advance(5_000);
    const [whole] = p.seen;
    expect(p.engine.status()[0]?.blockedSinks).toEqual([expect.objectContaining({ window: whole?.id })]);
    bad = false;
    await p.advance(5_000);
    await stop(p);
  });

  it('is one of ten that are named', async () => {
    const p = await new Process(new MemoryDatabase())
      .consumer({ size: 1, workers: 20, handler: () => 1, sinks: [failing('Ledger', () => new Error('away'))] })
      .start();
    await p.append(...Array.from({ length: 20 }, (_, index) => index));
    await p.advance(2_000);
    expect(p.engine.status()[0]?.blockedSinks).toHaveLength(10);
    const { reasons } = await report(p);
    expect(reasons).toHaveLength(10);
    await stop(p);
  });
});
