import { describe, expect, it } from 'vitest';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { CountWindow } from '../windows/count.window.js';
import { FixedTimeWindow } from '../windows/fixed-time.window.js';
import { RelaxedTimeWindow } from '../windows/relaxed-time.window.js';
import { WindowEmitter } from '../windows/window-emitter.js';
import { resolveStreaming } from './streaming.resolve.js';

const RETRY = { base: 1000, max: 60_000, jitter: 0.5, attempts: 5 };
const resolve = (options: unknown) => resolveStreaming('FlightReport.summarize', options, RETRY);

class Own extends WindowEmitter {
  windowReady() {
    return false;
  }
  query() {
    return [];
  }
}
class Hourly extends FixedTimeWindow {}

function errorOf(options: unknown): MinibatchError {
  try {
    resolve(options);
  } catch (error) {
    if (error instanceof MinibatchError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('resolveStreaming', () => {
  it('fills in what is not given', () => {
    expect(resolve({ size: 100 })).toEqual({
      emitter: CountWindow,
      emitterContext: { size: 100, offset: 0, grace: 1000, maxAhead: 60_000, empty: false },
      timeOrder: false,
      sinks: [],
      group: 'default',
      workers: 1,
      keep: false,
      onAllFailed: 'evidence',
      onRefused: 'block',
      retry: RETRY,
      maxSize: 10_000,
      maxBytes: 8 * 1024 * 1024,
      lookAhead: 10_000,
    });
  });

  it.each([
    ['size', { size: 3 }, CountWindow, false],
    ['size and interval', { size: 3, interval: '2s' }, CountWindow, false],
    ['interval', { interval: '2s' }, RelaxedTimeWindow, false],
    ['interval, relaxed', { interval: 10, relaxed: true }, RelaxedTimeWindow, false],
    ['interval, not relaxed', { interval: '1h', relaxed: false }, FixedTimeWindow, true],
    ['an emitter', { emitter: Own }, Own, false],
    ['an emitter by time', { emitter: Hourly, interval: '1h' }, Hourly, true],
  ])('chooses the strategy: %s', (_, options, emitter, timeOrder) => {
    expect(resolve(options)).toMatchObject({ emitter, timeOrder });
  });

  it('reads durations and takes undefined for not given', () => {
    const { emitterContext, retry } = resolve({
      interval: '2 minutes',
      relaxed: false,
      offset: '-5h',
      grace: 0,
      size: undefined,
      retry: { backoff: '5s', jitter: 0 },
    });
    expect(emitterContext).toMatchObject({ interval: 120_000, offset: -18_000_000, grace: 0 });
    expect(emitterContext).not.toHaveProperty('size');
    expect(retry).toEqual({ base: 5000, max: 60_000, jitter: 0, attempts: 5 });
  });

  it('shows a custom emitter as much as it asks for', () => {
    expect(resolve({ emitter: Own, lookAhead: 7, size: 5 })).toMatchObject({
      lookAhead: 7,
      emitterContext: { size: 5 },
    });
    expect(resolve({ size: 50_000, maxSize: 50_000 }).lookAhead).toBe(50_000);
  });

  it.each([
    ['nothing', {}, 'size', 'size, interval and emitter are missing'],
    ['size 0', { size: 0 }, 'size', 'size is 0; allowed: a whole number of at least 1'],
    ['size NaN', { size: Number.NaN }, 'size', 'size is NaN'],
    ['size negative', { size: -1 }, 'size', 'size is -1'],
    ['size a fraction', { size: 1.5 }, 'size', 'size is 1.5'],
    ['size infinite', { size: Infinity }, 'size', 'size is Infinity'],
    ['size a string', { size: '100' }, 'size', "size is '100'"],
    ['size null', { size: null }, 'size', 'size is null'],
    ['size over maxSize', { size: 20_000 }, 'size', 'at most maxSize (10000)'],
    ['interval negative', { interval: -5000 }, 'interval', 'interval is -5000'],
    ['interval in seconds', { interval: 5 }, 'interval', "for seconds write '5s'"],
    ['interval too short as string', { interval: '9ms' }, 'interval', "interval is '9ms'"],
    ['interval NaN', { interval: Number.NaN }, 'interval', 'interval is NaN'],
    ['interval a fraction', { interval: 33.3 }, 'interval', 'interval is 33.3'],
    ['interval no duration', { interval: 'soon' }, 'interval', "interval is 'soon'"],
    ['interval empty', { interval: '' }, 'interval', "interval is ''"],
    ['interval a date', { interval: new Date() }, 'interval', 'interval is a Date'],
    ['relaxed without interval', { relaxed: true }, 'interval', 'interval is missing'],
    ['relaxed false without interval', { relaxed: false }, 'interval', 'interval is missing'],
    ['relaxed no boolean', { interval: '1s', relaxed: 'no' }, 'relaxed', 'allowed: true or false'],
    [
      'relaxed with size',
      { size: 1, interval: '1s', relaxed: false },
      'relaxed',
      "relaxed can't be combined with windows by size",
    ],
    ['empty with size', { size: 1, empty: true }, 'empty', "empty can't be combined with windows by size"],
    [
      'grace with relaxed',
      { interval: '1s', grace: '1s' },
      'grace',
      "grace can't be combined with windows by interval",
    ],
    ['offset with relaxed', { interval: '1s', offset: 1 }, 'offset', "offset can't be combined with"],
    ['lookAhead without emitter', { size: 1, lookAhead: 5 }, 'lookAhead', "lookAhead can't be combined with"],
    [
      'relaxed with emitter',
      { emitter: Own, relaxed: true },
      'relaxed',
      "relaxed can't be combined with windows by a custom emitter",
    ],
    ['grace negative', { interval: '1s', relaxed: false, grace: -1 }, 'grace', 'grace is -1'],
    [
      'emitter an instance',
      { emitter: new Own() },
      'emitter',
      'emitter is an Own; allowed: a subclass of WindowEmitter',
    ],
    ['emitter another class', { emitter: Date }, 'emitter', 'emitter is Date'],
    ['emitter the base class', { emitter: WindowEmitter }, 'emitter', 'emitter is WindowEmitter'],
    ['emitter an arrow function', { emitter: () => undefined }, 'emitter', 'a subclass of WindowEmitter'],
    ['emitter a name', { emitter: 'Own' }, 'emitter', "emitter is 'Own'"],
    ['workers 0', { size: 1, workers: 0 }, 'workers', 'workers is 0'],
    ['keep no boolean', { size: 1, keep: 1 }, 'keep', 'keep is 1; allowed: true or false'],
    ['group empty', { size: 1, group: '' }, 'group', "group is ''"],
    ['group with NUL', { size: 1, group: 'a\0b' }, 'group', 'without NUL'],
    ['replaces itself', { size: 1, group: 'a', replaces: 'a' }, 'replaces', 'a group other than its own'],
    ['maxSize 0', { size: 1, maxSize: 0 }, 'maxSize', 'maxSize is 0'],
    ['maxBytes 0', { size: 1, maxBytes: 0 }, 'maxBytes', 'maxBytes is 0'],
    ['retry no object', { size: 1, retry: 5 }, 'options', 'retry: options is 5'],
    [
      'retry misspelled',
      { size: 1, retry: { backof: 5 } },
      'backof',
      "unknown option 'backof'; did you mean 'backoff'?",
    ],
    ['retry jitter', { size: 1, retry: { jitter: 2 } }, 'retry.jitter', 'a number from 0 to 1'],
    [
      'retry maxBackoff',
      { size: 1, retry: { backoff: 100, maxBackoff: 50 } },
      'retry.maxBackoff',
      'at least retry.backoff',
    ],
    ['rateLimit no object', { size: 1, rateLimit: 5 }, 'options', 'rateLimit: options is 5'],
    ['rateLimit of nothing', { size: 1, rateLimit: { per: 1 } }, 'rateLimit', 'either windows or messages'],
    [
      'rateLimit of both',
      { size: 1, rateLimit: { windows: 1, messages: 1, per: 1 } },
      'rateLimit',
      'either windows or messages',
    ],
    ['rateLimit 0', { size: 1, rateLimit: { windows: 0, per: 1 } }, 'rateLimit.windows', 'at least 1'],
    ['rateLimit without per', { size: 1, rateLimit: { messages: 9 } }, 'rateLimit.per', 'rateLimit.per is undefined'],
    ['misspelled', { sice: 1 }, 'sice', "unknown option 'sice'; did you mean 'size'? Allowed: size, interval"],
    ['no object', 5, 'options', 'options is 5'],
    ['no options', undefined, 'options', 'options is undefined'],
  ])('refuses %s', (_, options, option, message) => {
    const error = errorOf(options);
    expect(error.code).toBe(ErrorCode.InvalidOptions);
    expect(error.details).toMatchObject({ option });
    expect(error.message).toContain('FlightReport.summarize');
    expect(error.message).toContain(message);
  });
});
