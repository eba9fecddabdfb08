import { Injectable } from '@nestjs/common';
import { defineStream, ErrorCode, StreamService } from 'nestjs-minibatch';
import { from, Pipeline } from 'nestjs-minibatch/flow';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  application,
  Divided,
  give,
  lettersOf,
  MINUTE,
  Out,
  type Reading,
  reading,
  Readings,
  start,
} from './pipeline-windows.support.js';

const More = defineStream<Reading>('more');

/** Whether what functions call is away: then they are tried again, with everything that comes behind. */
let isDown = false;
beforeEach(() => {
  isDown = false;
});
function requireUp() {
  if (isDown) throw new Error('away');
}
const called = async (given: Reading): Promise<Reading> => {
  requireUp();
  return { ...given, sensor: 'a' };
};

describe('windows whose messages come from several sides', () => {
  @Injectable()
  class Merged {
    @Pipeline('counts')
    counts() {
      return from(Readings)
        .map((given) => ({ ...given, sensor: 'a' }))
        .merge(from(More).map(called))
        .timed('at')
        .by('sensor')
        .window({ interval: '1 minute' })
        .count()
        .map(({ value, start, partial }) => [value, +start, ...(partial ? ['partial'] : [])])
        .to(Out);
    }
  }

  it('do not close before all sides have come so far', async () => {
    const harness = await start(Merged);
    await give(harness, More, reading(0));
    await give(harness, Readings, reading(2));
    isDown = true;
    await give(harness, More, reading(1));
    await give(harness, Readings, reading(90_000), reading(200_000));
    expect(harness.outputs(Out)).toEqual([]);
    isDown = false;
    await harness.advance('10s');
    await give(harness, More, reading(130_000));
    expect(harness.outputs(Out)).toEqual([
      [3, 0],
      [1, MINUTE],
    ]);
    expect(await lettersOf(harness, 'counts/items')).toEqual([]);
  });

  it('do not wait for a side that has nothing, or has said nothing for long', async () => {
    const harness = await start(Merged);
    await give(harness, Readings, reading(0), reading(60_000));
    expect(harness.outputs(Out)).toEqual([[1, 0]]);
    await give(harness, More, reading(60_001));
    isDown = true;
    await give(harness, More, reading(60_002));
    await give(harness, Readings, reading(120_000));
    expect(harness.outputs(Out).length).toBe(1);
    await harness.advance('1 minute');
    expect(harness.outputs(Out)).toEqual([
      [1, 0],
      [2, MINUTE],
    ]);
    isDown = false;
    await harness.advance('2 minutes');
    const letters = await lettersOf(harness, 'counts/items');
    expect(letters.map(({ code }) => code)).toEqual([ErrorCode.Late]);
  });

  it('close by the clock while nothing comes from any side, and then cost nothing', async () => {
    const harness = await start(Merged);
    await give(harness, Readings, reading(0));
    await give(harness, More, reading(10_000));
    await harness.advance('55s');
    expect(harness.outputs(Out)).toEqual([]);
    await harness.advance('35s');
    expect(harness.outputs(Out)).toEqual([[2, 0]]);
    await harness.advance('2 minutes');
    const committed = () => harness.status().map(({ committedWindows }) => committedWindows);
    const before = committed();
    await harness.advance('1 hour');
    expect(committed()).toEqual(before);
  });

  it('are given out by a flush of a source, and so are those behind them', async () => {
    @Injectable()
    class Twice {
      @Pipeline('twice')
      twice() {
        return from(Readings)
          .merge(from(Divided))
          .timed('at', { idle: 'hold' })
          .by('sensor')
          .window({ interval: '1 minute' }, { name: 'minutes' })
          .count()
          .by('key')
          .window({ interval: '1 hour' }, { name: 'hours' })
          .aggregate((a) => ({ n: a.count() }))
          .map(({ value, partial }) => [value.n, partial])
          .to(Out);
      }
    }
    const harness = await start(Twice);
    await give(harness, Readings, reading(1), reading(2, 'b'));
    for (let n = 0; n < 20; n += 1) await harness.append(Divided, reading(3), { key: `${n}` });
    await harness.flush(Readings);
    await harness.advance('1s');
    expect(harness.outputs(Out)).toEqual([
      [1, true],
      [1, true],
    ]);
    await give(harness, Readings, reading(3_600_000));
    await harness.flush(Divided);
    await harness.advance('1s');
    expect(harness.outputs(Out).length).toBe(3);
  });

  it('by count are given out by a flush as well, and those behind them', async () => {
    @Injectable()
    class Hundreds {
      @Pipeline('hundreds')
      hundreds() {
        return from(Divided)
          .by('sensor')
          .window({ size: 100 }, { name: 'hundreds' })
          .count()
          .by('key')
          .window({ size: 10 }, { name: 'tens' })
          .aggregate((a) => ({ n: a.sum('value') }))
          .map(({ value, partial }) => [value.n, partial])
          .to(Out);
      }
    }
    const harness = await start(Hundreds);
    for (let n = 0; n < 150; n += 1) await harness.append(Divided, reading(n), { key: `${n}` });
    await harness.advance('2s');
    expect(harness.outputs(Out)).toEqual([]);
    await harness.flush(Divided);
    await harness.advance('1s');
    expect(harness.outputs(Out)).toEqual([[150, true]]);
  });

  it('wait for windows that are open before them, whatever the clock says', async () => {
    @Injectable()
    class Behind {
      @Pipeline('behind')
      behind() {
        return from(Readings)
          .timed('at')
          .by('sensor')
          .window({ interval: '1 minute' }, { name: 'minutes' })
          .count()
          .by('key')
          .window({ interval: '1 hour' }, { name: 'again' })
          .aggregate((a) => ({ n: a.sum('value') }))
          .map(({ value, start }) => [value.n, +start])
          .to(Out);
      }
    }
    const harness = await start(Behind);
    await give(harness, Readings, reading(1), reading(61_000));
    await harness.advance('5s');
    const readings = application().get(StreamService).stream(Readings);
    await readings.pause();
    await harness.advance('2 hours');
    expect(harness.outputs(Out)).toEqual([]);
    await readings.resume();
    await harness.advance('2 hours');
    expect(harness.outputs(Out)).toEqual([[2, 0]]);
    expect(await lettersOf(harness, 'behind/again/items')).toEqual([]);
  });

  it('wait for results that functions are slow with', async () => {
    @Injectable()
    class Slow {
      @Pipeline('slow')
      slow() {
        return from(Readings)
          .timed('at')
          .by('sensor')
          .window({ interval: '1 minute' }, { name: 'minutes' })
          .count()
          .map(async (result) => {
            requireUp();
            return { key: 'a', value: result.value };
          })
          .by('key')
          .window({ interval: '1 hour' }, { name: 'hours' })
          .aggregate((a) => ({ n: a.sum('value') }))
          .map(({ value, start }) => [value.n, +start])
          .to(Out);
      }
    }
    const harness = await start(Slow);
    await give(harness, Readings, reading(1));
    await give(harness, Readings, reading(60_000));
    isDown = true;
    await give(harness, Readings, reading(7_200_000));
    await harness.advance('10 minutes');
    isDown = false;
    await harness.advance('10 minutes');
    await give(harness, Readings, reading(20_000_000));
    await harness.advance('5s');
    expect(harness.outputs(Out)).toEqual([
      [2, 0],
      [1, 7_200_000],
    ]);
    expect(await lettersOf(harness, 'slow/hours/items')).toEqual([]);
  });
});

describe('streams of windows that grow', () => {
  const counts = () =>
    from(Readings)
      .merge(from(More))
      .timed('at')
      .by('sensor')
      .window({ interval: '1 minute' })
      .count()
      .map(({ key, value }) => `${key} ${value}`);

  @Injectable()
  class Counts {
    @Pipeline('counts')
    counts() {
      return counts().to(Out);
    }
  }

  it('are sources, whose new partitions are waited for', async () => {
    const harness = await start(Counts);
    await give(harness, Readings, reading(1), reading(2, 'b'));
    await application().get(StreamService).stream(Readings).grow(4);
    await harness.advance('2 minutes');
    for (let n = 0; n < 20; n += 1) await harness.append(Readings, reading(300_000, 'c'), { key: `${n}` });
    await harness.advance('3 minutes');
    expect((harness.outputs(Out) as readonly string[]).toSorted()).toEqual(['a 1', 'b 1', 'c 20']);
    expect(await lettersOf(harness, 'counts/items')).toEqual([]);
  });

  it.each(['items'])('and not the pipeline’s own: %s', async (own) => {
    const harness = await start(Counts);
    await give(harness, Readings, reading(1));
    await application()
      .get(StreamService)
      .stream(defineStream(`counts/${own}`))
      .grow(2);
    await give(harness, Readings, reading(2));
    const status = harness.status().find(({ key }) => key.stream === `counts/${own}`);
    expect(status?.lastError?.code).toBe(ErrorCode.StageChanged);
    expect(status?.lastError?.message).toContain('give the pipeline another name');
  });
});
