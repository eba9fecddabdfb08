import { Injectable, Logger } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import {
  defineStream,
  ErrorCode,
  memoryStore,
  type Sink,
  StatusService,
  Streaming,
  StreamService,
  type Window,
} from 'nestjs-minibatch';
import { from, Pipeline } from 'nestjs-minibatch/flow';
import { MinibatchHarness, MinibatchTestingModule } from 'nestjs-minibatch/testing';
import { afterEach, describe, expect, it, vi } from 'vitest';

interface Flight {
  readonly id: number;
  readonly origin: string;
  readonly delay: number;
}
type Named = Flight & { readonly airport: string };

const Flights = defineStream<Flight>('flights');
const Others = defineStream<Flight>('others');
const Delays = defineStream<Named>('delays');
const Small = defineStream<Flight>('small');
const Words = defineStream<string>('words');

const flight = (id: number, delay = 20): Flight => ({ id, origin: 'SAT', delay });

/** What the functions of the pipelines do, and what they were called with. */
@Injectable()
class Airports {
  readonly calls: number[] = [];
  readonly bad = new Set<number>();
  isDown = false;

  async name({ id, origin }: Flight): Promise<string> {
    this.calls.push(id);
    await Promise.resolve();
    if (this.isDown || this.bad.has(id)) throw new Error(`no airport for ${id}`);
    return origin.toLowerCase();
  }
}

@Injectable()
class DelayPipeline {
  seen = 0;
  constructor(private readonly airports: Airports) {}

  @Pipeline('delays')
  delays() {
    const { late, rest } = from(Flights)
      .filter(({ delay }) => delay > 0)
      .tap(() => (this.seen += 1))
      .branch({ late: ({ delay }) => delay >= 15 });
    const named = late.map(async (one) => ({ ...one, airport: await this.airports.name(one) }));
    return [named.to(Delays, { key: 'origin', concurrency: 3 }), rest.to(Small)];
  }
}

@Injectable()
class GivesUp {
  constructor(private readonly airports: Airports) {}

  @Pipeline('gives-up', { onAllFailed: 'deadLetter', retry: { attempts: 2, backoff: '1s', jitter: 0 } })
  run() {
    return from(Flights)
      .map(async (one) => ({ ...one, airport: await this.airports.name(one) }))
      .to(Delays);
  }
}

@Injectable()
class Merged {
  @Pipeline('merged')
  run() {
    return from(Flights)
      .merge(from(Others))
      .flatMap(({ origin }) => [origin, origin.toLowerCase()])
      .to(Words);
  }
}

/** One function that throws for some messages, and one that makes what can't be stored. */
@Injectable()
class Strict {
  @Pipeline('strict')
  run() {
    return from(Flights)
      .map(({ id }) => {
        if (id === 2) throw new Error('two is wrong');
        return id === 3 ? ((() => 3) as unknown as string) : `${id}`;
      })
      .to(Words);
  }
}

@Injectable()
class Ledger implements Sink<readonly unknown[]> {
  readonly puts: [string, readonly unknown[]][] = [];
  failures = 0;
  put(results: readonly unknown[], window: Window) {
    if (this.failures > 0) {
      this.failures -= 1;
      throw new Error('the ledger is closed');
    }
    this.puts.push([window.id, results]);
  }
}

@Injectable()
class IntoLedger {
  runs = 0;
  @Pipeline('ledger')
  run() {
    const ids = from(Flights).map(({ id }) => {
      this.runs += 1;
      return id;
    });
    return [
      ids.into(Ledger, { batch: { size: 2 } }),
      ids.filter((id) => id > 1).into(Ledger),
      ids.map(String).to(Words),
    ];
  }
}

let app: TestingModule;
afterEach(async () => {
  vi.restoreAllMocks();
  await app?.close();
});

async function start(...providers: (new (...args: never[]) => object)[]) {
  const imports = [MinibatchTestingModule.forRoot({ store: memoryStore(), retry: { backoff: '1s', jitter: 0 } })];
  app = await Test.createTestingModule({ imports, providers }).compile();
  await app.init();
  const harness = app.get(MinibatchHarness);
  const append = (...flights: Flight[]) => harness.appendMany(Flights, flights);
  const letters = async () =>
    (await harness.deadLetters(Flights)).map(({ data, error, group }) => [(data as Flight).id, group, error]);
  return { harness, append, letters, airports: () => app.get(Airports) };
}

/** What the boot of an application with these providers fails with. */
async function bootError(...providers: (new (...args: never[]) => object)[]) {
  const imports = [MinibatchTestingModule.forRoot()];
  const module = await Test.createTestingModule({ imports, providers }).compile();
  return module.init().then(
    () => undefined,
    (error: { code: string; message: string }) => `${error.message}`,
  );
}

describe('a pipeline', () => {
  it('appends what its functions make, in order, with key, time and trace headers of the source', async () => {
    const { harness, append } = await start(DelayPipeline, Airports);
    const headers = { traceparent: '00-1-2-01', other: 'stays' };
    await harness.append(Flights, flight(1), { headers });
    await append(flight(2, 5), flight(3), flight(4, 0), flight(5));
    await harness.advance('1s');
    expect(harness.outputs(Delays).map(({ id, airport }) => [id, airport])).toEqual([
      [1, 'sat'],
      [3, 'sat'],
      [5, 'sat'],
    ]);
    expect(harness.outputs(Small).map(({ id }) => id)).toEqual([2]);
    // What comes before a fork runs once for each message.
    expect(app.get(DelayPipeline).seen).toBe(4);
    const stored = [];
    for await (const message of app.get(StreamService).stream(Delays).messages()) stored.push(message);
    expect(stored[0]).toMatchObject({
      key: 'SAT',
      headers: { traceparent: '00-1-2-01' },
      created: new Date('2026-01-01'),
    });
    expect(stored[0]?.headers).not.toHaveProperty('other');
  });

  it('is a consumer like others: in the status, in the log, and by its name', async () => {
    const lines: string[] = [];
    vi.spyOn(Logger.prototype, 'log').mockImplementation((line: unknown) => void lines.push(String(line)));
    const { harness, append } = await start(DelayPipeline, Airports);
    await append(flight(1));
    await harness.advance('1s');
    expect(harness.status()).toMatchObject([
      { key: { stream: 'flights', group: 'delays' }, label: 'DelayPipeline.delays', committedMessages: 1 },
    ]);
    expect((await app.get(StatusService).health()).reasons.map(({ what, stream }) => [what, stream])).toEqual([
      ['stream-unconsumed', 'delays'],
    ]);
    expect(lines).toContain(
      "'flights' → DelayPipeline.delays (pipeline delays): batches of 1000, interval 250ms → 'delays', 'small'",
    );
  });

  it('has a consumer for each source, with the same steps behind them', async () => {
    const { harness, append } = await start(Merged);
    await append(flight(1));
    await harness.append(Others, { ...flight(2), origin: 'JFK' });
    await harness.advance('1s');
    expect(harness.outputs(Words).toSorted()).toEqual(['JFK', 'SAT', 'jfk', 'sat']);
    expect(
      harness
        .status()
        .map(({ key }) => `${key.stream}/${key.group}`)
        .toSorted(),
    ).toEqual(['flights/merged', 'others/merged']);
  });

  it('gives up the message for which a synchronous function throws, or that cannot be stored, and goes on with the others', async () => {
    const { harness, append, letters } = await start(Strict);
    await append(flight(1), flight(2), flight(3), flight(4));
    await harness.advance('1s');
    expect(harness.outputs(Words)).toEqual(['1', '4']);
    expect(await letters()).toEqual([
      [2, 'strict', 'two is wrong'],
      [3, 'strict', "append to 'words': data is a function: store data only [MINIBATCH_NOT_STORABLE]"],
    ]);
    expect(harness.rejected(Strict, 'run')).toHaveLength(2);
  });

  it('tries messages again whose asynchronous function fails, and only those, before it gives them up', async () => {
    const { harness, append, letters, airports } = await start(DelayPipeline, Airports);
    airports().bad.add(2);
    await append(flight(1), flight(2), flight(3));
    await harness.advance('500ms');
    expect(airports().calls).toEqual([1, 2, 3]);
    expect(harness.outputs(Delays)).toEqual([]);
    await harness.advance('1s');
    expect(airports().calls).toEqual([1, 2, 3, 2]);
    await harness.advance('1 minute');
    expect(harness.outputs(Delays).map(({ id }) => id)).toEqual([1, 3]);
    expect(await letters()).toEqual([[2, 'delays', 'no airport for 2']]);
    // Five runs, and one more of a message that got through, to see that the service is there.
    expect(airports().calls).toEqual([1, 2, 3, 2, 2, 2, 2, 1]);
  });

  it('gives nothing up while an asynchronous function fails with every message', async () => {
    const warnings: string[] = [];
    vi.spyOn(Logger.prototype, 'warn').mockImplementation((line: unknown) => void warnings.push(String(line)));
    const { harness, append, letters, airports } = await start(DelayPipeline, Airports);
    airports().isDown = true;
    await append(flight(1), flight(2, 5), flight(3));
    await harness.advance('10 minutes');
    expect(harness.status()).toMatchObject([{ activity: 'retrying', lastError: { code: ErrorCode.AllFailed } }]);
    expect(warnings[0]).toMatch(
      /^DelayPipeline\.delays: attempt 1 of window \S+ \(3 messages\) failed: step 4 \(map\) failed with all its 2 messages, so nothing is given up until it works \(onAllFailed\): no airport for 1 \[MINIBATCH_ALL_FAILED\]; next one in 1000 ms$/,
    );
    airports().isDown = false;
    await harness.advance('1 minute');
    expect(await letters()).toEqual([]);
    expect(harness.outputs(Delays).map(({ id }) => id)).toEqual([1, 3]);
    expect(harness.outputs(Small).map(({ id }) => id)).toEqual([2]);
  });

  it('gives nothing up if the outage begins in the middle of a batch', async () => {
    const { harness, append, letters, airports } = await start(DelayPipeline, Airports);
    const { name } = airports();
    vi.spyOn(airports(), 'name').mockImplementation(async function (this: Airports, one: Flight) {
      if (one.id === 2) this.isDown = true;
      return name.call(this, one);
    });
    await append(flight(1), flight(2), flight(3));
    await harness.advance('10 minutes');
    expect(await letters()).toEqual([]);
    vi.restoreAllMocks();
    airports().isDown = false;
    await harness.advance('2 minutes');
    expect(await letters()).toEqual([]);
    expect(harness.outputs(Delays).map(({ id }) => id)).toEqual([1, 2, 3]);
  });

  it("gives up what is all that came to a function with onAllFailed: 'deadLetter'", async () => {
    const { harness, append, letters, airports } = await start(GivesUp, Airports);
    airports().isDown = true;
    await append(flight(1), flight(2));
    await harness.advance('1 minute');
    expect(await letters()).toEqual([
      [1, 'gives-up', 'no airport for 1'],
      [2, 'gives-up', 'no airport for 2'],
    ]);
    expect(airports().calls).toEqual([1, 2, 1, 2]);
  });

  it('puts into sinks before the commit, with the same id again, and runs no function again for it', async () => {
    const { harness, append, letters } = await start(IntoLedger, Ledger);
    const ledger = app.get(Ledger);
    ledger.failures = 3;
    await append(flight(1), flight(2));
    await harness.advance('2s');
    expect(harness.outputs(Words)).toEqual([]);
    expect(harness.status()).toMatchObject([{ lastError: { code: ErrorCode.SinkFailed } }]);
    await harness.advance('1 minute');
    const [id] = ledger.puts[0] ?? [''];
    expect(ledger.puts).toEqual([
      [id, [1, 2]],
      [`${id}/2`, [2]],
    ]);
    expect(harness.outputs(Words)).toEqual(['1', '2']);
    expect(app.get(IntoLedger).runs).toBe(2);
    expect(await letters()).toEqual([]);
  });

  it('lets a test fail a sink that it puts into', async () => {
    const { harness, append } = await start(IntoLedger, Ledger);
    const outage = harness.failSink(Ledger, new Error('planted'));
    await append(flight(1), flight(2));
    await harness.advance('10s');
    expect(outage.tries).toBeGreaterThan(1);
    expect(harness.outputs(Words)).toEqual([]);
    outage.restore();
    await harness.restart();
    await harness.advance('1 minute');
    expect(app.get(Ledger).puts.map(([, results]) => results)).toEqual([[1, 2], [2]]);
    expect(harness.outputs(Words)).toEqual(['1', '2']);
  });

  it('counts once, however often its process is killed', async () => {
    const { harness, append, airports } = await start(DelayPipeline, Airports);
    airports().isDown = true;
    await append(flight(1), flight(2, 5));
    await harness.advance('1s');
    await harness.restart();
    airports().isDown = false;
    await harness.advance('1 minute');
    expect(harness.outputs(Delays).map(({ id }) => id)).toEqual([1]);
    const { buffered } = await app.get(StreamService).stream(Delays).stats();
    expect(buffered).toBe(1);
    expect((await app.get(StreamService).stream(Small).stats()).buffered).toBe(1);
  });
});

describe('the boot of an application with a pipeline', () => {
  it('says what is wrong with it', async () => {
    @Injectable()
    class Nothing {
      @Pipeline('nothing')
      run() {
        return [];
      }
    }
    expect(await bootError(Nothing)).toBe(
      'Nothing.run: what it returns is []; allowed: an outlet, which .to(Stream) and .into(sink) return, or an array of them [MINIBATCH_INVALID_OPTIONS]',
    );
    @Injectable()
    class Second {
      @Pipeline('merged')
      again() {
        return from(Others).to(Small);
      }
    }
    expect(await bootError(Merged, Second)).toBe(
      "Merged.run and Second.again are both the pipeline 'merged': the progress of a pipeline is stored under its name: give each a name of its own [MINIBATCH_DUPLICATE_GROUP]",
    );
    @Injectable()
    class Taken {
      @Streaming(Flights, { size: 1, group: 'merged' })
      take() {}
    }
    expect(await bootError(Merged, Taken)).toBe(
      "Taken.take and Merged.run both consume 'flights' in the group 'merged': the group of a pipeline is its name; give one of them another one [MINIBATCH_DUPLICATE_GROUP]",
    );
    @Injectable()
    class Twice {
      @Pipeline('twice')
      run() {
        const all = from(Flights);
        return [all.to(Small, { concurrency: 2 }), all.to(Others, { concurrency: 3 })];
      }
    }
    expect(await bootError(Twice)).toBe(
      "Twice.run: concurrency is 3; allowed: 2, as another outlet of 'flights' says: all of them are one consumer; or leave it out here [MINIBATCH_INVALID_OPTIONS]",
    );
  });

  it.each([
    ['an option', { kee: 'x' }, "Bad.run: to 'small': unknown option 'kee'; did you mean 'key'?"],
    ['nothing', null, 'Bad.run: to: options is null; allowed: an object [MINIBATCH_INVALID_OPTIONS]'],
    ['concurrency', { concurrency: 0 }, "Bad.run: to 'small': concurrency is 0; allowed: a whole number of at least 1"],
    ['batch', { batch: { size: 1.5 } }, "Bad.run: to 'small': batch.size is 1.5"],
    [
      'interval',
      { batch: { interval: 1 } },
      "Bad.run: to 'small': batch.interval is 1; allowed: a whole number of milliseconds of at least 10",
    ],
    ['key', { key: 5 }, "Bad.run: to 'small': key is 5; allowed: the name of a field"],
  ])('names %s that is wrong', async (_what, options, text) => {
    @Injectable()
    class Bad {
      @Pipeline('bad')
      run() {
        return from(Flights).to(Small, options as object);
      }
    }
    expect(await bootError(Bad)).toContain(text);
  });

  it('names steps and options of the decorator that are wrong', async () => {
    @Injectable()
    class NoFunction {
      @Pipeline('bad')
      run() {
        return from(Flights)
          .map('delay' as never)
          .to(Small as never);
      }
    }
    expect(await bootError(NoFunction)).toBe(
      "NoFunction.run: map: fn is 'delay'; allowed: a function of data and message [MINIBATCH_INVALID_OPTIONS]",
    );
    @Injectable()
    class NoTests {
      @Pipeline('bad')
      run() {
        const tests = null as unknown as Record<'late', () => boolean>;
        return from(Flights).branch(tests).rest.to(Small);
      }
    }
    expect(await bootError(NoTests)).toBe(
      'NoTests.run: branch: tests is null; allowed: an object [MINIBATCH_INVALID_OPTIONS]',
    );
    @Injectable()
    class OneInterval {
      @Pipeline('interval')
      run() {
        const all = from(Flights);
        return [all.to(Small, { batch: { interval: '1s' } }), all.to(Others, { batch: { interval: 1_000 } })];
      }
    }
    expect(await bootError(OneInterval)).toBe(undefined);
    @Injectable()
    class Evidence {
      @Pipeline('bad', { onAllFailed: 'evidence' as never })
      run() {
        return from(Flights).to(Small);
      }
    }
    expect(await bootError(Evidence)).toContain(
      "Evidence.run: onAllFailed is 'evidence'; allowed: 'block' or 'deadLetter'",
    );
  });
});
