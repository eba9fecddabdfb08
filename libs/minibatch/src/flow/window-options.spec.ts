import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import { count } from './aggregates.js';
import { CountWindows } from './count-windows.js';
import { HoppingWindows } from './hopping.js';
import { MessageWindows } from './message-windows.js';
import { SessionWindows } from './sessions.js';
import { TumblingWindows } from './tumbling.js';
import { checkWindow, type WindowUse } from './window-options.js';
import { logicOf } from './window-shape.js';

const METHOD: WindowUse = { late: 'window', merges: true };
const check = (options: Readonly<Record<string, unknown>>, use = METHOD) => checkWindow('Sensors.mean', options, use);

describe('checkWindow', () => {
  it.each<[string, Readonly<Record<string, unknown>>, object]>([
    [
      'tumbling windows, by processing time',
      { by: 'sensor', interval: '1 minute' },
      {
        windows: {
          kind: 'hopping',
          interval: 60_000,
          every: 60_000,
          offset: 0,
          empty: false,
          lateness: 0,
          lateWindows: true,
        },
        time: { mode: 'processing', wait: 1_000, idle: 'advance', maxAhead: 60_000 },
      },
    ],
    [
      'hopping windows, by event time',
      {
        interval: '1 minute',
        every: '10s',
        offset: '-2s',
        time: 'at',
        wait: '2s',
        lateness: '30s',
        late: 'drop',
        empty: 'once',
        idle: 'hold',
      },
      {
        windows: {
          ...{ kind: 'hopping', interval: 60_000, every: 10_000, offset: -2_000 },
          ...{ empty: 'once', lateness: 30_000, lateWindows: false },
        },
        time: { mode: 'event', wait: 2_000, idle: 'hold', maxAhead: 60_000 },
      },
    ],
    [
      'days of a calendar',
      { interval: '1 day', timezone: 'Europe/Berlin', relaxed: false, late: {} },
      { windows: { interval: 86_400_000, timezone: 'Europe/Berlin', lateWindows: false } },
    ],
    [
      'windows at each message',
      { interval: '1 minute', every: 'message', time: () => 0 },
      { windows: { kind: 'message', interval: 60_000 }, time: { mode: 'event', wait: 0 } },
    ],
    [
      'sessions',
      { gap: '2s', interval: '10s', leading: true, grace: 0 },
      {
        windows: { kind: 'session', gap: 2_000, longest: 10_000, leading: true, lateness: 0, lateWindows: true },
        time: { mode: 'processing', wait: 0 },
      },
    ],
    ['sessions without an end', { gap: 10 }, { windows: { longest: Infinity, leading: false } }],
    [
      'windows by count',
      { size: 100, every: 10, by: () => 'a', maxKeys: 5 },
      { windows: { kind: 'count', size: 100, every: 10, partial: false, longest: Infinity }, time: { wait: 0 } },
    ],
    ['windows by count, or after a while', { size: 100, interval: '5s' }, { windows: { every: 100, longest: 5_000 } }],
    ['partial windows', { size: 100, every: 30, partial: true }, { windows: { every: 30, partial: true } }],
  ])('makes the shape of %s', (_what, options, shape) => {
    const { problems, ...checked } = check(options);
    expect(problems).toEqual([]);
    expect(checked.shape).toMatchObject(shape);
  });

  it.each<[Readonly<Record<string, unknown>>, readonly string[]]>([
    [{}, ['interval']],
    [{ interval: 5 }, ['interval']],
    [{ interval: 'a while' }, ['interval']],
    [{ interval: Number.NaN }, ['interval']],
    [{ interval: '1000 years' }, ['interval']],
    [{ interval: '1s', every: 5 }, ['every']],
    [{ interval: '1s', every: '2s' }, ['every']],
    [{ interval: 1_000, every: 999 }, ['every']],
    [{ interval: '1 day', every: '1s' }, ['every']],
    [{ interval: '1s', every: 'messages' }, ['every']],
    [{ interval: '1s', empty: 'twice' }, ['empty']],
    [{ interval: '1s', relaxed: true }, ['relaxed']],
    [{ interval: '1s', wait: '1s' }, ['wait']],
    [{ interval: '1s', idle: 'hold' }, ['idle']],
    [{ interval: '1s', time: 'at', idle: 'stop' }, ['idle']],
    [{ interval: '1s', time: 'at', wait: -1 }, ['wait']],
    [{ interval: '1s', time: 'at', grace: 1 }, ['grace']],
    [{ interval: '1s', time: '' }, ['time']],
    [{ interval: '1s', time: new Date() }, ['time']],
    [{ interval: '1s', by: 5 }, ['by']],
    [{ interval: '1s', maxKeys: 0 }, ['maxKeys']],
    [{ interval: '1s', lateness: -1, late: 'never', maxAhead: -1 }, ['late', 'lateness', 'maxAhead']],
    [{ interval: '1s', timezone: 'Europe/Berlin' }, ['interval']],
    [{ interval: '1 day', every: '1h', offset: '30m', timezone: 'Europe/Berlin', time: 5 }, ['time']],
    [{ interval: '1d', timezone: 'Atlantis' }, ['timezone']],
    [{ interval: '1d', timezone: 5 }, ['timezone']],
    [{ interval: '1s', every: 'message', offset: 5, empty: true, lateness: 1 }, ['offset', 'empty', 'lateness']],
    [{ interval: '1s', every: 'message', late: 'window' }, ['late']],
    [{ every: 'message' }, ['interval']],
    [{ gap: 9 }, ['gap']],
    [{ gap: '2s', interval: '1s' }, ['interval']],
    [{ gap: '2s', every: '1s', offset: 5 }, ['every', 'offset']],
    [{ gap: '2s', leading: 'yes' }, ['leading']],
    [{ size: 10, gap: '2s' }, ['gap']],
    [{ size: 10, time: 'at', lateness: 5, late: 'drop' }, ['time', 'late', 'lateness']],
    [{ size: 0 }, ['size']],
    [{ size: 10, every: 11 }, ['every']],
    [{ size: 10, every: 3 }, ['every']],
    [{ size: 10, every: 0, partial: 1, interval: 5 }, ['every', 'partial', 'interval']],
    [{ size: 5_000, every: 1 }, ['every']],
  ])('refuses %j', (options, wrong) => {
    const { problems, shape } = check(options);
    expect(problems.map(({ details }) => details['option']).toSorted()).toEqual(wrong.toSorted());
    expect(shape).toBeUndefined();
    for (const { code, details, message } of problems) {
      expect(code).toBe(ErrorCode.InvalidOptions);
      expect(details).toHaveProperty('allowed');
      expect(message).toMatch(/^Sensors\.mean: /);
    }
  });

  it('says what was given and what is allowed', () => {
    const text = (options: Readonly<Record<string, unknown>>) => check(options).problems.map(({ message }) => message);
    expect(text({ gap: '2s', interval: '1s' })).toEqual([
      "Sensors.mean: interval is '1s'; allowed: at least gap (2000 ms): it is the longest duration of a session [MINIBATCH_INVALID_OPTIONS]",
    ]);
    expect(text({ size: 10, gap: '2s' })).toEqual([
      "Sensors.mean: gap can't be combined with windows by size; allowed: size, every, interval, partial, by, maxKeys [MINIBATCH_INVALID_OPTIONS]",
    ]);
  });

  it('needs a merge where windows are put together from parts', () => {
    const use: WindowUse = { late: 'deadLetter', merges: false };
    const wrong = (options: Readonly<Record<string, unknown>>) =>
      check(options, use).problems.map(({ details }) => details['option']);
    expect(wrong({ interval: '1s' })).toEqual([]);
    expect(wrong({ interval: '1s', every: 'message' })).toEqual([]);
    expect(wrong({ size: 10 })).toEqual([]);
    expect(wrong({ interval: '1s', every: '500ms' })).toEqual(['aggregate']);
    expect(wrong({ gap: '1s' })).toEqual(['aggregate']);
    expect(wrong({ size: 10, every: 5 })).toEqual(['aggregate']);
  });

  it('leaves options of other things alone', () => {
    expect(check({ interval: '1s', group: 'a', workers: 5, sink: {} }).problems).toEqual([]);
  });
});

describe('logicOf', () => {
  it.each([
    [{ interval: '1s' }, TumblingWindows],
    [{ interval: '1s', empty: true }, HoppingWindows],
    [{ interval: '1s', every: '500ms' }, HoppingWindows],
    [{ interval: '1s', every: 'message' }, MessageWindows],
    [{ gap: '1s' }, SessionWindows],
    [{ size: 5 }, CountWindows],
  ])('of %j', (options, type) => {
    const { shape } = check(options);
    const limit = { most: 1, sizeOf: () => 1, tooLarge: () => undefined };
    expect(shape && logicOf(shape, 'messages')).toBeInstanceOf(type);
    expect(shape && logicOf(shape, { aggregate: count() as never, limit })).toBeInstanceOf(type);
  });
});
