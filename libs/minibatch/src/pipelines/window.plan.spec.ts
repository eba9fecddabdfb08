import { describe, expect, it } from 'vitest';
import { defineStream } from '../definitions/stream-ref.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { type FlowOutlet, isOutlet } from './flow-node.js';
import { from, type Outlet } from './flow.js';
import { planPipeline } from './pipeline.plan.js';

interface Reading {
  readonly sensor: string;
  readonly at: number;
}
const Readings = defineStream<Reading>('readings');
const Others = defineStream<Reading>('others');
const Divided = defineStream<Reading>('divided', { partitions: 4 });
const Out = defineStream('out');
const DEFAULTS = { attempts: 3, backoff: 1_000, maxBackoff: 60_000, jitter: 0.5 } as never;

function plan(...outlets: readonly Outlet[]) {
  const all: readonly unknown[] = outlets;
  return planPipeline('Sensors.all', 'sensors', {}, all.filter(isOutlet) as readonly FlowOutlet[], DEFAULTS);
}

function streamsOf(...outlets: readonly Outlet[]) {
  return plan(...outlets).map(({ stream, windows }) => `${stream}${windows ? ` → ${windows.name}` : ''}`);
}

const counts = (flow = from(Readings), name?: string) =>
  flow
    .by('sensor')
    .window({ interval: '1 minute', time: 'at' }, name === undefined ? {} : { name })
    .count();

describe('the streams of a pipeline with windows', () => {
  it('are the source, and one for results that do not work at once', () => {
    expect(streamsOf(counts().to(Out))).toEqual(['readings → sensors', 'sensors/results']);
  });

  it('have one for late messages where .late is used', () => {
    const windows = from(Readings).by('sensor').window({ gap: '1 minute' });
    expect(streamsOf(windows.count().to(Out), windows.late.to(Out))).toEqual([
      'readings → sensors',
      'sensors/results',
      'sensors/late',
    ]);
  });

  it.each([
    ['of a source with several partitions', from(Divided)],
    ['of several sources', from(Readings).merge(from(Others))],
  ])('have one for what goes into windows %s', (_, flow) => {
    expect(streamsOf(counts(flow).to(Out)).slice(-2)).toEqual(['sensors/items → sensors', 'sensors/results']);
  });

  it('have one for each of several windows of one source, and for windows behind windows', () => {
    const minutes = counts(from(Readings), 'minutes');
    const hours = minutes.by('key').window({ interval: '1 hour' }, { name: 'hours' }).count();
    expect(streamsOf(minutes.to(Out), hours.to(Out))).toEqual([
      'readings → sensors/minutes',
      'sensors/minutes/results',
      'sensors/hours/items → sensors/hours',
      'sensors/hours/results',
    ]);
    expect(streamsOf(counts(from(Readings), 'a').to(Out), counts(from(Readings), 'b').to(Out))).toEqual([
      'readings',
      'sensors/a/items → sensors/a',
      'sensors/a/results',
      'sensors/b/items → sensors/b',
      'sensors/b/results',
    ]);
  });
});

describe('the time of windows', () => {
  const timeOf = (outlet: Outlet, step = 'sensors') => {
    const stage = plan(outlet).find(({ windows }) => windows?.name === step);
    return stage?.windows?.shape.time;
  };

  it('is the clock where they read the source, and else that of the messages', () => {
    const window = { interval: '1 minute', grace: '3s' } as const;
    expect(timeOf(from(Readings).by('sensor').window(window).count().to(Out))).toMatchObject({
      mode: 'processing',
      wait: 3_000,
    });
    expect(timeOf(from(Divided).by('sensor').window(window).count().to(Out))).toMatchObject({
      mode: 'event',
      wait: 3_000,
    });
  });

  it('is what timed() says, with its options', () => {
    const timed = from(Readings).timed('at', { wait: '5s', idle: 'hold' }).by('sensor');
    expect(timeOf(timed.window({ interval: '1 minute' }).count().to(Out))).toMatchObject({
      mode: 'event',
      wait: 5_000,
      idle: 'hold',
    });
  });

  it('is that of results behind windows, for which they wait', () => {
    const hours = counts(from(Readings), 'minutes').by('key').window({ interval: '1 hour' }, { name: 'hours' }).count();
    expect(timeOf(hours.to(Out), 'sensors/hours')).toMatchObject({ mode: 'event', wait: 1_000 });
  });
});

describe('what is wrong with windows', () => {
  const sensors = () => from(Readings).by('sensor');
  const minute = { interval: '1 minute' } as const;
  const twice = () => {
    const windows = sensors().window(minute);
    return [windows.count().to(Out), windows.reduce((a) => a).to(Out)];
  };
  const both = (one: () => Outlet, other: () => Outlet) => [one(), other()];

  it.each([
    [
      'two without names',
      () =>
        both(
          () => counts().to(Out),
          () => counts().to(Out),
        ),
      'name is undefined',
    ],
    ['one name twice', () => ['a', 'a'].map((name) => counts(from(Readings), name).to(Out)), "name is 'a'"],
    ['two aggregates', twice, 'what follows is'],
    ['only late messages', () => [sensors().window(minute).late.to(Out)], 'what follows is'],
    [
      'an unknown option',
      () => [
        sensors()
          .window({ ...minute, sise: 1 } as never)
          .count()
          .to(Out),
      ],
      "'sise'",
    ],
    [
      'an unknown option of the step',
      () => [
        sensors()
          .window(minute, { nam: 'a' } as never)
          .count()
          .to(Out),
      ],
      "'nam'",
    ],
    [
      'no shape',
      () => [
        sensors()
          .window({} as never)
          .count()
          .to(Out),
      ],
      'interval',
    ],
    [
      'late: window',
      () => [
        sensors()
          .window({ ...minute, late: 'window' as never })
          .count()
          .to(Out),
      ],
      "'window'",
    ],
    [
      'late twice',
      () => {
        const windows = sensors().window({ ...minute, late: 'drop' });
        return [windows.count().to(Out), windows.late.to(Out)];
      },
      'late',
    ],
    [
      'two times',
      () => [
        from(Readings)
          .timed('at')
          .by('sensor')
          .window({ ...minute, time: 'at' })
          .count()
          .to(Out),
      ],
      'time',
    ],
    [
      'different times',
      () => {
        const flow = from(Readings).timed('at').merge(from(Others));
        return [flow.by('sensor').window(minute).count().to(Out)];
      },
      'the same timed()',
    ],
    [
      'an aggregate that hopping windows need merge of',
      () => [
        sensors()
          .window({ ...minute, every: '10s' })
          .aggregate({ init: () => 0, add: (n: number) => n + 1, result: (n: number) => n })
          .to(Out),
      ],
      'merge',
    ],
  ] as const)('is said at boot: %s', (_, make, text) => {
    const error = (() => {
      try {
        plan(...make());
      } catch (thrown) {
        return thrown;
      }
    })();
    expect(error).toBeInstanceOf(MinibatchError);
    expect(error).toMatchObject({ code: ErrorCode.InvalidOptions });
    expect((error as Error).message).toContain('Sensors.all');
    expect((error as Error).message).toContain(text);
  });

  it.each([
    ['by', () => from(Readings).by(5 as never)],
    ['timed', () => from(Readings).timed('' as never)],
    ['an option of timed', () => from(Readings).timed('at', { grace: 5 } as never)],
    [
      'no aggregate',
      () =>
        sensors()
          .window(minute)
          .aggregate(() => ({})),
    ],
    [
      'half an aggregate',
      () =>
        sensors()
          .window(minute)
          .aggregate({ init: () => 0 } as never),
    ],
    [
      'half an aggregate of several',
      () =>
        sensors()
          .window(minute)
          .aggregate(() => ({ n: {} as never })),
    ],
    [
      'a number of an aggregate',
      () =>
        sensors()
          .window(minute)
          .aggregate((a) => ({ n: a.collect(0) })),
    ],
  ])('is said where it is written: %s', (_, make) => {
    expect(make).toThrow(expect.objectContaining({ code: ErrorCode.InvalidOptions }));
  });
});
