import { Injectable } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import { defineStream, memoryStore, type Sink, StreamService } from 'nestjs-minibatch';
import { from, Pipeline } from 'nestjs-minibatch/flow';
import { MinibatchHarness, MinibatchTestingModule, type MinibatchTestingOptions } from 'nestjs-minibatch/testing';
import { afterEach, describe, expect, it } from 'vitest';

interface Flight {
  readonly id: number;
  readonly delay: number;
}

const Flights = defineStream<Flight>('flights');
const Words = defineStream<string>('words');

const flight = (id: number, delay = 20): Flight => ({ id, delay });

/** Takes its array apart as it delivers, and fails in the middle of it. */
@Injectable()
class Drains implements Sink<readonly number[]> {
  readonly taken: number[] = [];
  failures = 2;
  put(results: readonly number[]) {
    const left = results as number[];
    for (let id = left.shift(); id !== undefined; id = left.shift()) {
      if (this.failures > 0 && left.length === this.failures - 1) {
        this.failures -= 1;
        throw new Error('the drain is stopped up');
      }
      this.taken.push(id);
    }
  }
}

@Injectable()
class IntoDrain {
  @Pipeline('drain')
  run() {
    return from(Flights)
      .map(({ id }) => id)
      .into(Drains);
  }
}

/** Its functions do to the message what they like. */
@Injectable()
class Spoils {
  @Pipeline('spoils')
  run() {
    return from(Flights)
      .tap((_one, message) => {
        const spoiled = message as { key?: string; headers?: Record<string, string> };
        message.created.setUTCHours(0, 0, 0, 0);
        spoiled.key = 'spoiled';
        if (spoiled.headers) spoiled.headers['traceparent'] = 'spoiled';
      })
      .map(({ id }) => `${id}`)
      .to(Words);
  }
}

/** An error whose every trap throws. */
const hostile = (): Error => {
  const trap = () => {
    throw new Error('a trap');
  };
  return new Proxy(new Error('hostile'), { get: trap, getPrototypeOf: trap, has: trap });
};

@Injectable()
class Hostile {
  @Pipeline('hostile')
  run() {
    const { sync, rest } = from(Flights).branch({ sync: ({ delay }) => delay === 0 });
    return [
      sync
        .map(({ id }): string => {
          if (id === 2) throw hostile();
          return `${id}`;
        })
        .to(Words),
      rest.map(async ({ id }) => (id === 4 ? Promise.reject(hostile()) : `${id}`)).to(Words),
    ];
  }
}

/** Generators that have something to close when they end. */
@Injectable()
class Opens {
  readonly open = new Set<string>();
  @Pipeline('opens')
  run() {
    const words = from(Flights).flatMap((one) => this.words(one));
    return [
      words
        .filter((word) => word.startsWith('1'))
        .map((word) => {
          if (word === '1b') throw new Error('no b');
          return word;
        })
        .to(Words),
      words
        .filter((word) => !word.startsWith('1'))
        .map(async (word) => (word === '2b' ? Promise.reject(new Error('no b')) : word))
        .to(Words),
    ];
  }

  private *words({ id }: Flight): Generator<string> {
    try {
      for (const letter of 'abc') {
        this.open.add(`${id}`);
        yield `${id}${letter}`;
      }
    } finally {
      this.close(id);
    }
  }

  private close(id: number): void {
    this.open.delete(`${id}`);
    if (id === 1) throw new Error('not closed');
  }
}

/** Makes 100 bytes of each message, and 10,000 of one. */
@Injectable()
class Swells {
  runs = 0;
  @Pipeline('swells')
  run() {
    return from(Flights)
      .flatMap(({ id, delay }) => {
        this.runs += 1;
        return Array.from({ length: id === 2 ? 100 : 1 }, () => `${id}${'x'.repeat(delay)}`);
      })
      .to(Words, { batch: { size: 10 } });
  }
}

let app: TestingModule;
afterEach(() => app?.close());

async function start(...providers: (new (...args: never[]) => object)[]) {
  return startOn(memoryStore(), ...providers);
}

async function startOn(store: MinibatchTestingOptions['store'], ...providers: (new (...args: never[]) => object)[]) {
  const imports = [MinibatchTestingModule.forRoot({ store, retry: { backoff: '1s', jitter: 0 } })];
  app = await Test.createTestingModule({ imports, providers }).compile();
  app.useLogger(false);
  await app.init();
  const harness = app.get(MinibatchHarness);
  const append = (...flights: Flight[]) => harness.appendMany(Flights, flights);
  return { harness, append };
}

describe('a pipeline whose functions and sinks do what they like', () => {
  it('gives all results again to a sink that has taken its array apart and failed', async () => {
    const { harness, append } = await start(IntoDrain, Drains);
    await append(flight(1), flight(2), flight(3));
    await harness.advance('1 minute');
    expect(app.get(Drains).taken).toEqual([1, 1, 2, 1, 2, 3]);
  });

  it('gives new messages key, time and trace of the source, whatever its functions do to the message', async () => {
    const { harness } = await start(Spoils);
    const headers = { traceparent: 'trace' };
    await harness.advance('5 minutes');
    await harness.append(Flights, flight(1), { key: 'SAT', headers });
    const { value } = await app.get(StreamService).stream(Flights).messages()[Symbol.asyncIterator]().next();
    await harness.advance('1s');
    const made: unknown[] = [];
    for await (const message of app.get(StreamService).stream(Words).messages()) made.push(message);
    const { created } = value as { created: Date };
    expect(created.getUTCMinutes()).toBe(5);
    expect(made).toMatchObject([{ data: '1', key: 'SAT', headers, created }]);
  });

  it('gives up messages whose errors cannot be read', async () => {
    const { harness, append } = await start(Hostile);
    await append(flight(1, 0), flight(2, 0), flight(3), flight(4));
    await harness.advance('1 minute');
    expect(harness.outputs(Words)).toEqual(['1', '3']);
    const text = 'an error that cannot be read';
    const letters = await harness.deadLetters(Flights);
    expect(letters.map(({ data, error }) => [(data as Flight).id, error])).toEqual([
      [2, text],
      [4, text],
    ]);
  });

  it('ends a generator when a step behind it fails', async () => {
    const { harness, append } = await start(Opens);
    await append(flight(1), flight(2), flight(3));
    await harness.advance('1 minute');
    expect(harness.outputs(Words)).toEqual(['3a', '3b', '3c']);
    expect([...app.get(Opens).open]).toEqual([]);
    expect((await harness.deadLetters(Flights)).map(({ error }) => error)).toEqual(['no b', 'no b']);
  });

  it('does not fill a commit with what the store has no room for', async () => {
    const store = Object.assign(await memoryStore().useFactory(), { maxWindowEffectBytes: 5_000 });
    const { harness, append } = await startOn(store, Swells);
    const letters = async () => (await harness.deadLetters(Flights)).map(({ data }) => (data as Flight).id);
    await append(flight(1, 100), flight(2, 100), flight(3, 100));
    await harness.advance('1s');
    // One message that is made into too much is a dead letter.
    expect(harness.outputs(Words).map((word) => word[0])).toEqual(['1', '3']);
    expect(await letters()).toEqual([2]);
    const [letter] = await harness.deadLetters(Flights);
    expect(letter?.error).toMatch(/what one message is made into has \d+ bytes .*at most 5000 .*MESSAGE_TOO_LARGE/);
    // Several of which each would do are committed one after another, and the function runs once for each.
    const { runs } = app.get(Swells);
    await append(...[4, 5, 6, 7, 8].map((id) => flight(id, 1_000)));
    await harness.advance('1 minute');
    expect(harness.outputs(Words).map((word) => word[0])).toEqual(['1', '3', '4', '5', '6', '7', '8']);
    expect(app.get(Swells).runs).toBe(runs + 5);
    expect(await letters()).toEqual([2]);
  });
});
