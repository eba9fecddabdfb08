import { Injectable } from '@nestjs/common';
import { from, Pipeline } from 'nestjs-minibatch/flow';
import { describe, expect, it } from 'vitest';
import {
  bounds,
  Divided,
  facts,
  give,
  Lines,
  MINUTE,
  Others,
  Out,
  reading,
  Readings,
  start,
} from './pipeline-windows.support.js';

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

  it('are given out by a flush that comes with their messages, also those by count', async () => {
    @Injectable()
    class Counts {
      @Pipeline('minutes')
      minutes() {
        const minutes = from(Readings).by('sensor').window({ interval: '1 hour', time: 'at', idle: 'hold' });
        return minutes
          .count()
          .map(({ value }) => `minutes ${value}`)
          .to(Out);
      }
      @Pipeline('hundreds')
      hundreds() {
        return from(Readings)
          .timed('at')
          .by('sensor')
          .window({ size: 100, interval: '5s' })
          .count()
          .map(({ value, partial }) => `hundreds ${value} ${partial}`)
          .to(Out);
      }
      @Pipeline('thousands')
      thousands() {
        return from(Readings)
          .by('sensor')
          .window({ size: 1_000 })
          .count()
          .map(({ value, partial }) => `thousands ${value} ${partial}`)
          .to(Out);
      }
    }
    const harness = await start(Counts);
    await give(harness, Readings, reading(1), reading(2));
    await harness.advance('2s');
    expect(harness.outputs(Out)).toEqual([]);
    await Promise.all([harness.append(Readings, reading(3)), harness.flush(Readings)]);
    await harness.advance('1s');
    const outputs = (harness.outputs(Out) as readonly string[]).toSorted();
    expect(outputs).toEqual(['hundreds 3 true', 'minutes 3', 'thousands 3 true']);
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
