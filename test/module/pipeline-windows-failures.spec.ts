import { Injectable } from '@nestjs/common';
import { ErrorCode, type Sink, StreamService } from 'nestjs-minibatch';
import { from, Pipeline } from 'nestjs-minibatch/flow';
import { describe, expect, it } from 'vitest';
import {
  application,
  facts,
  give,
  Late,
  lettersOf,
  Lines,
  MINUTE,
  Others,
  Out,
  reading,
  Readings,
  start,
} from './pipeline-windows.support.js';

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
      @Pipeline('archive')
      archive() {
        const windows = from(Readings).by('sensor').window({ interval: '1 minute', time: 'at' }).count();
        return [
          windows.to(Late as never),
          from(Readings)
            .map(({ at }) => at)
            .to(Others),
        ];
      }
    }
    const harness = await start(Counts);
    await give(harness, Readings, ...late);
    await harness.advance('1 minute');
    expect(harness.outputs(Out)).toEqual(counts);
    // What else is made of late messages is right.
    expect(harness.outputs(Others)).toEqual(late.map(({ at }) => at));
    const letters = await lettersOf(harness, 'readings');
    expect(letters.filter(({ group }) => group === 'counts')).toEqual([
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
    const status = harness.status().find(({ key }) => key.stream === 'readings' && key.group === 'dropped');
    expect(status).toMatchObject({ dropped: 2 });
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
    await application().get(StreamService).stream('counts/results').redrive();
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
    await application().get(StreamService).stream('counts/results').redrive();
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
    expect(application().get(Report).lines).toEqual(['a 2', 'b 2', 'c 2']);
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

  it('keeps what is too large, or can not be stored, from holding up others', async () => {
    @Injectable()
    class Large {
      @Pipeline('large')
      large() {
        return from(Readings)
          .by('sensor')
          .window({ interval: '1 minute', every: '2s', time: 'at' })
          .aggregate((a) => ({ all: a.collect(1_000) }))
          .map(async ({ key, value }) => [key, value.all.length])
          .to(Out);
      }
    }
    const harness = await start(Large);
    const long = 'x'.repeat(900_000);
    for (let n = 0; n < 25; n += 1) {
      await harness.append(Readings, { ...reading(n * 2_000, 'large'), long } as never);
      await harness.append(Readings, reading(n * 2_000, 'small'));
    }
    await give(harness, Readings, reading(200_000, 'end'));
    const outputs = harness.outputs(Out) as readonly (readonly [string, number])[];
    expect(outputs).toContainEqual(['small', 25]);
    expect(outputs).not.toContainEqual(['large', 25]);
    const letters = await lettersOf(harness, 'large/results');
    expect(letters.length).toBeGreaterThan(0);
    expect(new Set(letters.map(({ code }) => code))).toEqual(new Set([ErrorCode.StateTooLarge]));
  });

  it('is not shown what an aggregate has done to a message in an attempt that failed', async () => {
    @Injectable()
    class Keeps {
      @Pipeline('keeps')
      keeps() {
        return from(Readings)
          .by('sensor')
          .window({ size: 3 })
          .aggregate({
            init: (): { top?: { celsius: number } } => ({}),
            add(acc, item: { celsius: number }) {
              if (item.celsius < 0) throw new Error('cold');
              if (acc.top) acc.top.celsius += item.celsius;
              else acc.top = item;
            },
            result: ({ top }) => top?.celsius,
          })
          .map(({ value }) => value)
          .to(Out);
      }
    }
    const harness = await start(Keeps);
    await harness.appendMany(
      Readings,
      [1, 2, -1, 4].map((celsius, n) => reading(n, 'a', celsius)),
    );
    await harness.advance('1s');
    expect(harness.outputs(Out)).toEqual([7]);
  });
});
