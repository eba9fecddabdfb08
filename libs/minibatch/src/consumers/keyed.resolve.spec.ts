import { describe, expect, it } from 'vitest';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { WindowEmitter } from '../windows/window-emitter.js';
import { resolveStreaming } from './streaming.resolve.js';

const RETRY = { base: 1000, max: 60_000, jitter: 0.5, attempts: 5 };
const resolve = (options: unknown) => resolveStreaming('Clicks.sessions', options, RETRY);

class Own extends WindowEmitter {
  windowReady() {
    return false;
  }
  query() {
    return [];
  }
}

function errorOf(options: unknown): MinibatchError {
  try {
    resolve(options);
  } catch (error) {
    if (error instanceof MinibatchError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('windows by key and event time', () => {
  it.each([
    [{ by: 'user', size: 3 }, 'count', 'by user, size 3'],
    [{ by: 'user', size: 3, interval: '5s' }, 'count', 'by user, size 3, interval 5s'],
    [{ size: 4, every: 2 }, 'count', 'size 4, every 2'],
    [{ by: 'user', interval: '5s' }, 'hopping', 'by user, interval 5s'],
    [{ interval: '1m', every: '10s' }, 'hopping', 'interval 1m, every 10s'],
    [{ interval: '1m', every: 'message' }, 'message', 'interval 1m, every message'],
    [{ interval: '1d', timezone: 'Europe/Berlin' }, 'hopping', 'interval 1d'],
    [{ gap: '5s', interval: '1m' }, 'session', 'interval 1m, gap 5s'],
    [{ interval: '1m', relaxed: false, time: 'at', wait: '5s' }, 'hopping', 'interval 1m, time at'],
  ])('are made of %o', (options, kind, text) => {
    expect(resolve(options).keyed).toMatchObject({
      shape: { windows: { kind } },
      late: kind === 'message' ? 'drop' : 'window',
      text,
    });
  });

  it.each([
    [{ size: 3 }],
    [{ interval: '5s' }],
    [{ interval: '5s', relaxed: false, grace: '1s', empty: true }],
    [{ emitter: Own, size: 3 }],
  ])('are not made of %o', (options) => {
    expect(resolve(options).keyed).toBeUndefined();
  });

  it.each([
    [{ by: 'user' }, 'interval', 'Clicks.sessions: size, interval and gap are missing'],
    [{ by: 5, size: 1 }, 'by', 'by is 5; allowed: the name of a field of the data, or a function'],
    [{ by: 'user', interval: '5s', relaxed: true }, 'relaxed', 'relaxed is true; allowed: false, or nothing'],
    [{ by: 'user', size: 3, gap: '5s' }, 'gap', "gap can't be combined with windows by size"],
    [{ by: 'user', interval: '5s', late: 'later' }, 'late', "late is 'later'; allowed: 'window', 'deadLetter', 'drop'"],
    [{ by: 'user', interval: '5s', late: { name: 's' } }, 'late', "allowed: 'window', 'deadLetter', 'drop'"],
    [{ interval: '5s', wait: '1s' }, 'wait', 'allowed: together with time'],
    [{ interval: '5s', every: '6s' }, 'every', 'at most interval'],
    [{ interval: 5, every: 1 }, 'interval', 'allowed: a whole number of milliseconds of at least 10'],
    [{ gap: '5s', interval: '1s' }, 'interval', 'allowed: at least gap'],
    [{ gap: 5 }, 'gap', 'at least 10'],
    [{ interval: '90s', timezone: 'Europe/Berlin' }, 'interval', 'whole hours or days'],
    [{ interval: '1d', timezone: 'Mars' }, 'timezone', "as 'Europe/Berlin'"],
    [{ by: 'user', interval: '5s', keep: true }, 'keep', 'allowed: false together with windows by key'],
    [{ time: 'at', interval: '5s', workers: 2 }, 'workers', 'allowed: 1, or more together with by'],
    [{ by: 'user', size: 3, lookAhead: 5 }, 'lookAhead', 'only together with emitter'],
    [{ by: 'user', size: 30_000 }, 'size', 'at most maxSize'],
    [{ emitter: Own, by: 'user' }, 'by', "by can't be combined with windows by a custom emitter"],
    [{ by: 'user', size: 3, evry: 1 }, 'evry', 'did you mean'],
  ])('refuse %o', (options, option, text) => {
    const { code, details, message } = errorOf(options);
    expect([code, details['option']]).toEqual([ErrorCode.InvalidOptions, option]);
    expect(message).toContain('Clicks.sessions');
    expect(message).toContain(text);
  });

  it('may have workers for their keys', () => {
    expect(resolve({ by: 'user', size: 3, workers: 4 }).workers).toBe(4);
  });
});
