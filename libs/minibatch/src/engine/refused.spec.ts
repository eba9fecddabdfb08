import { describe, expect, it } from 'vitest';
import { AppendError, ErrorCode, MinibatchError, ResultRefused } from '../errors/minibatch.error.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { Process, STREAM } from './process.spec.support.js';

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);

function setUp() {
  const database = new MemoryDatabase();
  const plain = new MemoryStreamStore(database);
  return {
    database,
    plain,
    letters: async () => plain.deadLetters(STREAM, {}, undefined, 1_000),
    buffered: async () => (await plain.stats([STREAM]))[0]?.buffered,
  };
}

async function stop(process: Process): Promise<void> {
  const stopping = process.engine.stop(0);
  await process.clock.advance(10_000);
  await stopping;
}

/** Takes lists of numbers, but for one with a number that it can never take. */
class Ledger {
  readonly taken: unknown[] = [];
  puts = 0;
  error: unknown = new ResultRefused('the ledger has no 13');

  constructor(private readonly bad: unknown = 13) {}

  readonly put = (result: unknown): void => {
    this.puts += 1;
    const list = result as unknown[];
    if (list.includes(this.bad)) throw this.error;
    this.taken.push(...list);
  };
}

const numbers = (a: unknown, b: unknown) => Number(a) - Number(b);

describe('a result that its sink can never take', () => {
  it('blocks by default, says so with its code, and continues when the sink takes it after all', async () => {
    const { database, letters, buffered } = setUp();
    const ledger = new Ledger();
    const p = await new Process(database)
      .consumer({ size: 4, handler: ({ data }) => data, sinks: [{ name: 'Ledger', sink: ledger }] })
      .start();
    await p.append(...range(12, 16));
    await p.advance(10 * 60_000);
    expect(await letters()).toEqual([]);
    expect(p.engine.status()[0]).toMatchObject({
      activity: 'blocked',
      lastError: { code: ErrorCode.ResultRefused, message: 'the ledger has no 13 [MINIBATCH_RESULT_REFUSED]' },
    });
    const lines = p.logged.filter((line) => line.includes('refuses'));
    expect(lines).toEqual([
      expect.stringMatching(/sink Ledger refuses .*: the ledger has no 13 .*onRefused: 'deadLetter'/),
    ]);
    Object.assign(ledger, { bad: undefined });
    await p.advance(2 * 60_000);
    expect(ledger.taken).toEqual([12, 13, 14, 15]);
    expect(await buffered()).toBe(0);
    expect(p.seen.length).toBe(1);
    await stop(p);
  });

  it("costs its message alone with onRefused: 'deadLetter'", async () => {
    const { database, letters, buffered } = setUp();
    const ledger = new Ledger();
    const p = await new Process(database)
      .consumer({
        size: 8,
        onRefused: 'deadLetter',
        handler: ({ data }) => data,
        sinks: [{ name: 'Ledger', sink: ledger }],
      })
      .start();
    await p.append(...range(8, 24));
    // No backoff: another try would be no use.
    expect(await buffered()).toBe(0);
    expect(ledger.taken.toSorted(numbers)).toEqual(range(8, 24).filter((each) => each !== 13));
    const [letter, ...others] = await letters();
    expect(others).toEqual([]);
    expect(letter).toMatchObject({ data: 13, error: 'the ledger has no 13 [MINIBATCH_RESULT_REFUSED]' });
    expect(p.engine.status()[0]).toMatchObject({ activity: 'waiting', deadLettered: 1, failures: 0 });
    await stop(p);
  });

  it.each([1, 3])('makes dead letters of all of a window of %i of which nothing is taken', async (size) => {
    const { database, letters, buffered } = setUp();
    const put = () => {
      throw new ResultRefused('no');
    };
    const p = await new Process(database)
      .consumer({ size, onRefused: 'deadLetter', handler: () => 1, sinks: [{ name: 'sink', sink: { put } }] })
      .start();
    await p.append(...range(0, size));
    expect((await letters()).map(({ data }) => data)).toEqual(range(0, size));
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it('is not one because of an outage, whatever onRefused says', async () => {
    const { database, letters, buffered } = setUp();
    const ledger = new Ledger();
    ledger.error = new MinibatchError(ErrorCode.SinkFailed, 'the ledger is away');
    const p = await new Process(database)
      .consumer({
        size: 4,
        onRefused: 'deadLetter',
        handler: ({ data }) => data,
        sinks: [{ name: 'Ledger', sink: ledger }],
      })
      .start();
    await p.append(...range(12, 16));
    await p.advance(10 * 60_000);
    expect(await letters()).toEqual([]);
    expect(p.engine.status()[0]?.activity).toBe('blocked');
    Object.assign(ledger, { bad: undefined });
    await p.advance(2 * 60_000);
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it('lets no other sink keep the window: one that is away is not waited for', async () => {
    const { database, letters, buffered } = setUp();
    const ledger = new Ledger();
    let refusals = 0;
    const refusing = async () => {
      refusals += 1;
      // After the other one has failed.
      await new Promise((resolve) => setImmediate(resolve));
      throw new ResultRefused('no');
    };
    ledger.error = new Error('away');
    const p = await new Process(database)
      .consumer({
        size: 1,
        onRefused: 'deadLetter',
        handler: ({ data }) => data,
        sinks: [
          { name: 'Ledger', sink: ledger },
          { name: 'refusing', sink: { put: refusing } },
        ],
      })
      .start();
    await p.append(13);
    expect((await letters()).map(({ data, error }) => [data, error])).toEqual([[13, 'no [MINIBATCH_RESULT_REFUSED]']]);
    expect({ refusals, puts: ledger.puts, buffered: await buffered() }).toEqual({ refusals: 1, puts: 1, buffered: 0 });
    expect(p.engine.status()[0]?.activity).toBe('waiting');
    await stop(p);
  });

  const failed = (...codes: ErrorCode[]) =>
    new AppendError(ErrorCode.AppendFailed, 'x', 'no', {
      details: { failed: codes.map((code, index) => ({ index, error: new MinibatchError(code, 'x') })) },
    });
  it.each([
    ['what it appends can not be stored', new AppendError(ErrorCode.NotStorable, 'x', 'no'), true],
    ['what it appends is too large', new AppendError(ErrorCode.MessageTooLarge, 'x', 'no'), true],
    ['all that failed can not be stored', failed(ErrorCode.NotStorable, ErrorCode.MessageTooLarge), true],
    ['some failed for another reason', failed(ErrorCode.NotStorable, ErrorCode.StoreUnavailable), false],
    ['the append failed', failed(), false],
    ['an error of another kind has the code', Object.assign(new Error('x'), { code: 11_000 }), false],
  ])('is told by the error of a sink: %s', async (_, error, isRefused) => {
    const { database, letters } = setUp();
    const ledger = new Ledger();
    ledger.error = error;
    const p = await new Process(database)
      .consumer({
        size: 1,
        onRefused: 'deadLetter',
        handler: ({ data }) => data,
        sinks: [{ name: 'Ledger', sink: ledger }],
      })
      .start();
    await p.append(13);
    await p.advance(60_000);
    expect((await letters()).length).toBe(isRefused ? 1 : 0);
    await stop(p);
  });
});
