import { Injectable, type Type } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import { defineStream, ErrorCode, memoryStore, type Sink, StreamService } from 'nestjs-minibatch';
import { from, Pipeline } from 'nestjs-minibatch/flow';
import { MinibatchHarness, MinibatchTestingModule } from 'nestjs-minibatch/testing';
import { afterEach, describe, expect, it } from 'vitest';

interface Reading {
  readonly sensor: string;
  readonly at: number;
  readonly celsius: number;
}
interface Line {
  readonly text: string;
  readonly at: number;
}

const Readings = defineStream<Reading>('readings');
const Divided = defineStream<Reading>('divided', { partitions: 4 });
const Lines = defineStream<Line>('lines');
const Out = defineStream('out');
const Others = defineStream('others');
const Late = defineStream<Reading>('late');

const MINUTE = 60_000;
const reading = (at: number, sensor = 'a', celsius = 20): Reading => ({ sensor, at, celsius });

let app: TestingModule | undefined;
afterEach(async () => {
  await app?.close();
  app = undefined;
});

async function start(...providers: Type[]): Promise<MinibatchHarness> {
  app = await Test.createTestingModule({
    imports: [MinibatchTestingModule.forRoot({ store: memoryStore() })],
    providers,
  }).compile();
  await app.init();
  return app.get(MinibatchHarness);
}

/** Appends the messages one by one, and lets a second pass. */
async function give<T>(harness: MinibatchHarness, stream: ReturnType<typeof defineStream<T>>, ...all: T[]) {
  for (const one of all) await harness.append(stream, one as never);
  await harness.advance('1s');
}

async function lettersOf(harness: MinibatchHarness, stream: string) {
  const letters = await harness.deadLetters(stream);
  return letters.map(({ data, group, error }) => ({ data, group, code: /\[(\w+)\]$/.exec(error)?.[1] ?? error }));
}

const bounds = (start: number, end: number) => ({ start: new Date(start), end: new Date(end) });
const facts = { revision: 0, late: false, partial: false };

describe('windows of a pipeline', () => {
  it('count words by the minute', async () => {
    @Injectable()
    class WordCounter {
      @Pipeline('word-count')
      words() {
        return from(Lines)
          .timed('at', { wait: '5s' })
          .flatMap(({ text }) => text.toLowerCase().match(/\p{L}+/gu) ?? [])
          .by((word) => word)
          .window({ interval: '1 minute' })
          .count()
          .map(({ key, value, start }) => `${key} ${value} ${start.getTime()}`)
          .to(Out);
      }
    }
    const harness = await start(WordCounter);
    await give(harness, Lines, { text: 'A rose is a rose', at: 1_000 }, { text: 'is a rose', at: 61_000 });
    await give(harness, Lines, { text: 'rose', at: 59_999 });
    expect(harness.outputs(Out)).toEqual([]);
    await give(harness, Lines, { text: 'the end', at: 200_000 });
    expect(harness.outputs(Out)).toEqual([
      'a 2 0',
      'is 1 0',
      'rose 3 0',
      `a 1 ${MINUTE}`,
      `is 1 ${MINUTE}`,
      `rose 1 ${MINUTE}`,
    ]);
  });

  it('have several results, and go on after a restart where they were', async () => {
    @Injectable()
    class Averages {
      @Pipeline('averages')
      averages() {
        return from(Readings)
          .timed('at')
          .by('sensor')
          .window({ interval: '1 minute', every: '30s', empty: 'once' })
          .aggregate((a) => ({ mean: a.avg('celsius'), hottest: a.max('celsius'), n: a.count() }))
          .to(Out);
      }
    }
    const harness = await start(Averages);
    await give(harness, Readings, reading(1, 'a', 10), reading(40_000, 'a', 30));
    await harness.restart();
    await give(harness, Readings, reading(70_000, 'a', 50), reading(500_000, 'b'));
    expect(harness.outputs(Out)).toEqual([
      { key: 'a', value: { mean: 10, hottest: 10, n: 1 }, ...facts, ...bounds(-30_000, 30_000) },
      { key: 'a', value: { mean: 20, hottest: 30, n: 2 }, ...facts, ...bounds(0, MINUTE) },
      { key: 'a', value: { mean: 40, hottest: 50, n: 2 }, ...facts, ...bounds(30_000, 90_000) },
      { key: 'a', value: { mean: 50, hottest: 50, n: 1 }, ...facts, ...bounds(MINUTE, 120_000) },
      { key: 'a', value: { n: 0 }, ...facts, ...bounds(90_000, 150_000) },
    ]);
  });

  it('are sessions, which end by the clock when nothing comes', async () => {
    @Injectable()
    class Visits {
      @Pipeline('visits')
      visits() {
        return from(Readings)
          .by('sensor')
          .window({ gap: '10s', time: 'at' })
          .aggregate((a) => ({ first: a.first(), last: a.last() }))
          .map(({ key, value, start, end }) => [key, value.first.at, value.last.at, +start, +end])
          .to(Out);
      }
    }
    const harness = await start(Visits);
    await give(harness, Readings, reading(0), reading(9_000), reading(5_000, 'b'), reading(20_000));
    await harness.advance('9s');
    expect(harness.outputs(Out)).toEqual([
      ['b', 5_000, 5_000, 5_000, 15_000],
      ['a', 0, 9_000, 0, 19_000],
    ]);
    await harness.advance('2s');
    expect(harness.outputs(Out).at(-1)).toEqual(['a', 20_000, 20_000, 20_000, 30_000]);
  });

  it('have so many messages, without bounds', async () => {
    @Injectable()
    class Sums {
      @Pipeline('sums')
      sums() {
        return from(Readings)
          .by('sensor')
          .window({ size: 3 })
          .reduce((a, b) => ({ ...a, celsius: a.celsius + b.celsius }))
          .to(Out);
      }
    }
    const harness = await start(Sums);
    for (let n = 0; n < 8; n += 1) await give(harness, Readings, reading(n, n % 2 === 0 ? 'a' : 'b', n));
    expect(harness.outputs(Out)).toEqual([
      { key: 'a', value: reading(0, 'a', 6), ...facts },
      { key: 'b', value: reading(1, 'b', 9), ...facts },
    ]);
  });

  it('take an aggregate of the application, and are given out unfinished by a flush', async () => {
    @Injectable()
    class Spread {
      @Pipeline('spread')
      spread() {
        return from(Readings)
          .by('sensor')
          .window({ interval: '1 hour', time: 'at', idle: 'hold' })
          .aggregate({
            init: () => ({ min: Infinity, max: -Infinity }),
            add: (acc, { celsius }) => ({ min: Math.min(acc.min, celsius), max: Math.max(acc.max, celsius) }),
            result: ({ min, max }) => max - min,
          })
          .to(Out);
      }
    }
    const harness = await start(Spread);
    await give(harness, Readings, reading(1, 'a', 10), reading(2, 'a', 34));
    await harness.flush(Readings);
    expect(harness.outputs(Out)).toEqual([{ key: 'a', value: 24, ...facts, partial: true, ...bounds(0, 60 * MINUTE) }]);
  });
});

describe('messages that are in no window', () => {
  const late = [reading(90_000), reading(1), reading(2, 'b'), reading(200_000)];
  const counts = [
    ['a', 1, MINUTE],
    ['a', 1, 3 * MINUTE],
  ];

  it.each([['deadLetter'], [undefined]] as const)('are dead letters if they are late: %s', async (option) => {
    @Injectable()
    class Counts {
      @Pipeline('counts')
      counts() {
        const windows = { interval: '1 minute', time: 'at', ...(option && { late: option }) } as const;
        return from(Readings)
          .by('sensor')
          .window(windows)
          .count()
          .map(({ key, value, start }) => [key, value, +start])
          .to(Out);
      }
    }
    const harness = await start(Counts);
    await give(harness, Readings, ...late);
    await harness.advance('1 minute');
    expect(harness.outputs(Out)).toEqual(counts);
    expect(await lettersOf(harness, 'readings')).toEqual([
      { data: reading(1), group: 'counts', code: ErrorCode.Late },
      { data: reading(2, 'b'), group: 'counts', code: ErrorCode.Late },
    ]);
  });

  it('go where `late` says, or through what follows .late', async () => {
    @Injectable()
    class Counts {
      @Pipeline('dropped')
      dropped() {
        return from(Readings)
          .by('sensor')
          .window({ interval: '1 minute', time: 'at', late: 'drop' })
          .count()
          .to(Others);
      }
      @Pipeline('streamed')
      streamed() {
        return from(Readings).by('sensor').window({ interval: '1 minute', time: 'at', late: Late }).count().to(Others);
      }
      @Pipeline('flowing')
      flowing() {
        const windows = from(Readings).by('sensor').window({ interval: '1 minute', time: 'at' });
        return [windows.count().to(Others), windows.late.map(({ sensor, at }) => `${sensor} ${at}`).to(Out)];
      }
      @Pipeline('asynchronous')
      asynchronous() {
        const windows = from(Readings).by('sensor').window({ interval: '1 minute', time: 'at' });
        return [windows.count().to(Others), windows.late.map(async ({ at }) => `later ${at}`).to(Out)];
      }
    }
    const harness = await start(Counts);
    await give(harness, Readings, ...late);
    await harness.advance('1 minute');
    expect(harness.outputs(Late)).toEqual([reading(1), reading(2, 'b')]);
    expect(harness.outputs(Out).toSorted()).toEqual(['a 1', 'b 2', 'later 1', 'later 2']);
    expect(harness.outputs(Others)).toHaveLength(8);
    expect(await harness.deadLetters('readings')).toEqual([]);
  });

  it('are dead letters without a key or a time, or if an aggregate can do nothing with them', async () => {
    @Injectable()
    class Sums {
      @Pipeline('sums')
      sums() {
        return from(Readings)
          .timed('at')
          .by(({ sensor }) => (sensor === '' ? undefined : sensor))
          .window({ interval: '1 minute' })
          .aggregate((a) => ({ sum: a.sum('celsius'), n: a.count() }))
          .map(({ value }) => value)
          .to(Out);
      }
    }
    const harness = await start(Sums);
    const bad = [
      reading(1, ''),
      reading(Number.NaN),
      { ...reading(1), at: 'noon' } as never,
      { ...reading(1), celsius: 'hot' } as never,
    ];
    await give(harness, Readings, reading(1, 'a', 1), ...bad, reading(2, 'a', 2), reading(100_000));
    expect(harness.outputs(Out)).toEqual([{ sum: 3, n: 2 }]);
    expect((await lettersOf(harness, 'readings')).map(({ data, code }) => [data, code])).toEqual([
      [bad[0], ErrorCode.NoKey],
      [bad[1], ErrorCode.BadTime],
      [bad[2], ErrorCode.BadTime],
      [bad[3], "sum('celsius') got a value of type string where it needs a number"],
    ]);
  });

  it('are in none with anything that was made of them', async () => {
    @Injectable()
    class Sums {
      @Pipeline('sums')
      sums() {
        const parts = from(Lines).flatMap(({ text }) => text.split(' '));
        return [
          parts
            .by((part) => part[0])
            .window({ size: 2 })
            .aggregate((a) => ({ sum: a.sum((part) => Number(part.slice(1)) || (part as never)) }))
            .map(({ key, value }) => [key, value.sum])
            .to(Out),
          parts.to(Others),
        ];
      }
    }
    const harness = await start(Sums);
    await give(harness, Lines, { text: 'a1 b1', at: 0 }, { text: 'a2 bx c1', at: 0 }, { text: 'a3 b3 c3', at: 0 });
    expect(harness.outputs(Out)).toEqual([
      ['a', 4],
      ['b', 4],
    ]);
    expect(harness.outputs(Others)).toEqual(['a1', 'b1', 'a3', 'b3', 'c3']);
    expect(await harness.deadLetters('lines')).toHaveLength(1);
  });
});

@Injectable()
class Report implements Sink<readonly string[]> {
  readonly lines: string[] = [];
  put(lines: readonly string[]): void {
    this.lines.push(...lines);
  }
}

describe('what follows windows', () => {
  it('is tried again where it blames the result, and holds up no other', async () => {
    let isBroken = true;
    @Injectable()
    class Counts {
      @Pipeline('counts')
      counts() {
        return from(Readings)
          .by('sensor')
          .window({ size: 2 })
          .count()
          .map(({ key, value }) => {
            if (key === 'bad' && isBroken) throw new Error('broken');
            return `${key} ${value}`;
          })
          .to(Out);
      }
    }
    const harness = await start(Counts);
    await give(harness, Readings, ...['a', 'bad', 'a', 'bad', 'c', 'c'].map((key, n) => reading(n, key)));
    expect(harness.outputs(Out)).toEqual(['a 2', 'c 2']);
    const letters = await harness.deadLetters('counts/results');
    expect(letters.map(({ group, error }) => [group, error])).toEqual([['counts', 'broken']]);
    isBroken = false;
    await app!.get(StreamService).stream('counts/results').redrive();
    await harness.advance('1s');
    expect(harness.outputs(Out)).toEqual(['a 2', 'c 2', 'bad 2']);
  });

  it('keeps what the result function of an aggregate throws at', async () => {
    let isBroken = true;
    @Injectable()
    class Counts {
      @Pipeline('counts')
      counts() {
        const aggregate = {
          init: () => 0,
          add: (acc: number) => acc + 1,
          result: (acc: number) => {
            if (isBroken) throw new Error('broken');
            return acc;
          },
        };
        return from(Readings).by('sensor').window({ size: 2 }).aggregate(aggregate).to(Out);
      }
    }
    const harness = await start(Counts);
    await give(harness, Readings, reading(1), reading(2));
    expect(await harness.deadLetters('counts/results')).toHaveLength(1);
    isBroken = false;
    await app!.get(StreamService).stream('counts/results').redrive();
    await harness.advance('1s');
    expect(harness.outputs(Out)).toEqual([{ key: 'a', value: 2, ...facts }]);
  });

  it('may be asynchronous, and put into sinks', async () => {
    @Injectable()
    class Counts {
      constructor(readonly report: Report) {}
      @Pipeline('counts')
      counts() {
        const lines = from(Readings)
          .by('sensor')
          .window({ size: 2 })
          .count()
          .map(async ({ key, value }) => `${key} ${value}`);
        return [lines.into(Report), lines.to(Out)];
      }
    }
    const harness = await start(Report, Counts);
    await give(harness, Readings, ...['a', 'b', 'a', 'b', 'c', 'c'].map((key, n) => reading(n, key)));
    expect(app!.get(Report).lines).toEqual(['a 2', 'b 2', 'c 2']);
    expect(harness.outputs(Out)).toEqual(['a 2', 'b 2', 'c 2']);
  });

  it('may be windows again', async () => {
    @Injectable()
    class Counts {
      @Pipeline('counts')
      counts() {
        const minutes = from(Readings)
          .timed('at')
          .by('sensor')
          .window({ interval: '1 minute' }, { name: 'minutes' })
          .count();
        const hours = minutes
          .by('key')
          .window({ interval: '1 hour' }, { name: 'hours' })
          .aggregate((a) => ({ minutes: a.count(), n: a.sum('value') }));
        return [
          minutes.map(({ key, value, start }) => [key, value, +start / MINUTE]).to(Others),
          hours.map(({ key, value, start }) => [key, value, +start / MINUTE]).to(Out),
        ];
      }
    }
    const harness = await start(Counts);
    const at = [0, 1, 59, 61, 119, 3_599, 3_600, 3_700, 9_000];
    await give(harness, Readings, ...at.map((seconds) => reading(seconds * 1_000)));
    await harness.advance('2 hours');
    expect(harness.outputs(Others)).toEqual([
      ['a', 3, 0],
      ['a', 2, 1],
      ['a', 1, 59],
      ['a', 1, 60],
      ['a', 1, 61],
      ['a', 1, 150],
    ]);
    expect(harness.outputs(Out)).toEqual([
      ['a', { minutes: 3, n: 6 }, 0],
      ['a', { minutes: 2, n: 2 }, 60],
      ['a', { minutes: 1, n: 1 }, 120],
    ]);
  });
});

describe('the steps of a pipeline', () => {
  it('may be windows several times, beside others', async () => {
    @Injectable()
    class Counts {
      @Pipeline('counts')
      counts() {
        const { hot, rest } = from(Readings)
          .timed('at')
          .branch({ hot: ({ celsius }) => celsius > 30 });
        return [
          hot
            .by('sensor')
            .window({ size: 2 }, { name: 'hot' })
            .count()
            .map(({ key }) => `hot ${key}`)
            .to(Out),
          rest
            .by('sensor')
            .window({ interval: '1 minute' }, { name: 'rest' })
            .count()
            .map(({ key }) => `rest ${key}`)
            .to(Out),
          rest.map(({ at }) => at).to(Others),
        ];
      }
    }
    const harness = await start(Counts);
    const all = [reading(1, 'a', 40), reading(2, 'b'), reading(3, 'a', 50), reading(4, 'b'), reading(90_000, 'c')];
    await give(harness, Readings, ...all);
    await harness.advance('2 minutes');
    expect(harness.outputs(Out)).toEqual(['hot a', 'rest b', 'rest c']);
    expect(harness.outputs(Others)).toEqual([2, 4, 90_000]);
  });

  it('bring the messages of a key together that are in several partitions', async () => {
    @Injectable()
    class Counts {
      @Pipeline('counts')
      counts() {
        return from(Divided)
          .by('sensor')
          .window({ interval: '1 minute', time: 'at' })
          .count()
          .map(({ key, value }) => `${key} ${value}`)
          .to(Out);
      }
    }
    const harness = await start(Counts);
    const all = Array.from({ length: 40 }, (_, n) => ({ data: reading(n, n % 2 === 0 ? 'a' : 'b'), key: `key ${n}` }));
    for (const { data, key } of all) await harness.append(Divided, data, { key });
    await harness.advance('2 minutes');
    expect(harness.outputs(Out).toSorted()).toEqual(['a 20', 'b 20']);
  });
});
