import { describe, expect, it } from 'vitest';
import { defineStream } from '../definitions/stream-ref.js';
import type { Sink } from '../sinks/sink.interface.js';
import type { Aggregate } from '../flow/aggregates.js';
import { type Flow, from } from './flow.js';
import { Pipeline } from './pipeline.decorator.js';

// Checked by `tsc --noEmit`: each `@ts-expect-error` fails the check if what follows does compile.

interface Flight {
  readonly origin: string;
  readonly delay: number;
}
interface Delayed extends Flight {
  readonly airport: string;
}
interface Cancelled extends Flight {
  readonly reason: string;
}

const Flights = defineStream<Flight>('flights');
const Delays = defineStream<Delayed>('delays');
const Small = defineStream<Flight>('small-delays');
const Numbers = defineStream<number>('numbers');

class DelaySink implements Sink<readonly Delayed[]> {
  put(_delays: readonly Delayed[]): void {}
}
class NumberSink implements Sink<readonly number[]> {
  put(_numbers: readonly number[]): void {}
}
class AnySink implements Sink {
  put(): void {}
}

const isCancelled = (flight: Flight): flight is Cancelled => 'reason' in flight;
const enrich = async (flight: Flight): Promise<Delayed> => ({ ...flight, airport: '' });

describe('what compiles', () => {
  it('follows the data through every step', () => {
    class Delay {
      @Pipeline('delays', { replaces: 'old', retry: { attempts: 2 }, onAllFailed: 'deadLetter' })
      delays() {
        const { late, rest } = from(Flights)
          .filter(({ delay }) => delay > 0)
          .branch({ late: ({ delay }) => delay >= 15 });
        return [
          late.map(enrich).to(Delays, { key: 'origin', concurrency: 20, batch: { size: 10, interval: '1s' } }),
          rest.tap((flight, { id, headers }) => [flight.delay, id, headers]).to(Small, { key: ({ origin }) => origin }),
        ];
      }

      @Pipeline('reasons')
      reasons() {
        const reasons: Flow<string> = from(Flights)
          .filter(isCancelled)
          .map(({ reason }) => reason);
        const words: Flow<string> = reasons.flatMap((reason) => reason.split(' '));
        const lengths: Flow<number> = words.flatMap(async (word) => new Set([word.length]));
        const both: Flow<number | Flight> = lengths.merge(from(Small));
        return both.filter((one): one is number => typeof one === 'number').to(Numbers);
      }

      @Pipeline('sinks')
      sinks() {
        const delays = from(Flights).map(enrich);
        from(defineStream('untyped')).to(defineStream('others'));
        delays.to(defineStream('others'));
        return [delays.into(DelaySink), delays.into(AnySink, { concurrency: 2 }), delays.into('TOKEN')];
      }
    }
    expect(Delay).toBeDefined();
  });

  it('follows the data through windows', () => {
    const variance: Aggregate<number, { n: number; sum: number }, number> = {
      init: () => ({ n: 0, sum: 0 }),
      add(acc, value) {
        acc.n += 1;
        acc.sum += value;
      },
      result: ({ n, sum }) => sum / n,
    };
    const outlets = () => {
      const windows = from(Flights)
        .timed((flight) => flight.delay, { wait: '1s' })
        .by(({ origin }) => origin)
        .window({ interval: '1 minute', every: '10s', late: Small });
      const sessions = from(Flights)
        .by('origin')
        .window({ gap: '1 hour', time: ({ delay }) => new Date(delay) });
      return [
        windows
          .aggregate((a) => ({ n: a.count(), mean: a.avg('delay'), first: a.first(), top: a.topK(3, 'origin') }))
          .map(({ key, value, start, end }) => ({
            origin: `${key} ${value.first.origin} ${value.top[0]?.item}`,
            delay: value.mean + value.n + Number(start) + Number(end),
          }))
          .to(Small),
        sessions
          .reduce((a, b) => (a.delay > b.delay ? a : b))
          .map(({ value }) => value)
          .to(Small),
        sessions.late.to(Small),
        from(Numbers)
          .by((n) => n % 2)
          .window({ size: 10, every: 5, partial: true })
          .aggregate(variance)
          .map(({ value }) => value)
          .to(Numbers),
        windows
          .count()
          .by('key')
          .window({ interval: '1 hour' }, { name: 'hours' })
          .aggregate((a) => ({ sum: a.sum('value') }))
          .map(({ value }) => value.sum)
          .to(Numbers),
      ];
    };
    expect(outlets()).toHaveLength(5);
  });

  it('refuses what does not fit', () => {
    const keyed = () => from(Flights).by('origin');
    const windows = () => keyed().window({ interval: '1s' });
    const byCount = () => keyed().window({ size: 10 }).count();
    const empty = () =>
      keyed()
        .window({ interval: '1s', empty: true })
        .aggregate((a) => ({ first: a.first() }));
    const isEmpty = Boolean(keyed);
    const maybeEmpty = () =>
      keyed()
        .window({ interval: '1s', empty: isEmpty })
        .aggregate((a) => ({ first: a.first() }));
    const attempts = [
      // @ts-expect-error the stream takes numbers
      () => from(Flights).to(Numbers),
      // @ts-expect-error an airport is missing
      () => from(Flights).to(Delays),
      // @ts-expect-error no such field
      () => from(Flights).to(Small, { key: 'from' }),
      // @ts-expect-error a number is no key
      () => from(Flights).to(Small, { key: 'delay' }),
      // @ts-expect-error the sink takes numbers
      () => from(Flights).into(NumberSink),
      // @ts-expect-error the instance takes numbers
      () => from(Flights).into(new NumberSink()),
      // @ts-expect-error not iterable
      () => from(Flights).flatMap(({ delay }) => delay),
      // @ts-expect-error a number is no test
      () => from(Flights).filter(({ delay }) => delay),
      // @ts-expect-error no such way
      () => from(Flights).branch({ late: () => true }).early,
      // @ts-expect-error rest is what no test takes
      () => from(Flights).branch({ rest: () => true }),
      // @ts-expect-error no such field in the test
      () => from(Flights).branch({ late: ({ speed }) => speed > 1 }),
      // @ts-expect-error a name is no stream
      () => from('flights'),
      // @ts-expect-error misspelled
      () => from(Flights).to(Small, { kee: 'origin' }),
      // @ts-expect-error a sink has no key
      () => from(Flights).into(AnySink, { key: 'origin' }),
      // @ts-expect-error a pipeline has no such option
      () => Pipeline('name', { group: 'other' }),
      // @ts-expect-error no such field
      () => from(Flights).by('nope'),
      // @ts-expect-error a text is no time
      () => from(Flights).timed('origin'),
      // @ts-expect-error a session has no hop
      () => keyed().window({ gap: '1s', every: '1s' }),
      // @ts-expect-error windows by count have no time
      () => keyed().window({ size: 10, time: 'delay' }),
      // @ts-expect-error no windows without keys
      () => from(Flights).window({ interval: '1s' }),
      // @ts-expect-error the sum of a text
      () => windows().aggregate((a) => ({ sum: a.sum('origin') })),
      // @ts-expect-error results without bounds
      () => byCount().map(({ start }) => start),
      // @ts-expect-error there may be windows without messages
      () => empty().map(({ value }) => value.first.origin),
      // @ts-expect-error there may be windows without messages
      () => maybeEmpty().map(({ value }) => value.first.origin),
      // @ts-expect-error a result is no number
      () => windows().count().to(Numbers),
      // @ts-expect-error late messages are flights
      () => keyed().window({ interval: '1s', late: Numbers }),
      // @ts-expect-error evidence of other windows is not waited for
      () => Pipeline('name', { onAllFailed: 'evidence' }),
    ];
    expect(attempts).toHaveLength(27);
    class Wrong {
      // @ts-expect-error it returns a flow without an outlet
      @Pipeline('flow')
      flow() {
        return from(Flights);
      }
      // @ts-expect-error it takes something
      @Pipeline('takes')
      takes(_window: unknown) {
        return from(Flights).to(Small);
      }
      // @ts-expect-error it is asynchronous
      @Pipeline('later')
      async later() {
        return from(Flights).to(Small);
      }
    }
    expect(Wrong).toBeDefined();
  });
});
