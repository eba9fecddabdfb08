import { describe, expect, it } from 'vitest';
import { DEFAULT_ENGINE_OPTIONS } from './engine/consumer-engine.js';
import { InlineExecutor } from './executors/inline.executor.js';
import { ErrorCode } from './errors/minibatch.error.js';
import { resolveOptions } from './minibatch.options.js';

describe('resolveOptions', () => {
  it('has a default for everything', () => {
    expect(resolveOptions()).toEqual({
      engine: DEFAULT_ENGINE_OPTIONS,
      pending: { messages: 100_000, bytes: 128 * 1024 * 1024 },
      retry: { base: 1000, max: 60_000, jitter: 0.5, attempts: 5 },
      executor: 'inline',
      role: 'emitter',
      shutdownTimeout: 5_000,
      autoStart: true,
    });
  });

  it('takes what is given', () => {
    const options = {
      leaseTime: '5s',
      readAhead: 10,
      retry: { maxBackoff: '2m' },
      shutdownTimeout: 0,
      autoStart: false,
      consumers: ['flights'],
    } as const;
    expect(resolveOptions(options)).toMatchObject({
      engine: { leaseTime: 5000, readAhead: 10 },
      retry: { base: 1000, max: 120_000 },
      shutdownTimeout: 0,
      autoStart: false,
      consumers: ['flights'],
    });
  });

  it('lets the longest wait grow with the first', () => {
    expect(resolveOptions({ retry: { backoff: '5m' } }).retry).toMatchObject({ base: 300_000, max: 300_000 });
  });

  it.each([
    [undefined, undefined, undefined],
    [['a'], undefined, ['a']],
    [[], undefined, []],
    [['a'], '', ['a']],
    [['a'], ' ', ['a']],
    [['a'], 'b, C.d ,e/f,', ['b', 'C.d', 'e/f']],
    [['a'], 'none', []],
  ])('consumers %j and the variable %j: %j', (consumers, variable, expected) => {
    const environment = variable === undefined ? {} : { MINIBATCH_CONSUMERS: variable };
    expect(resolveOptions(consumers ? { consumers } : {}, environment).consumers).toEqual(expected);
  });

  it('takes a role, which the environment overrides', () => {
    expect(resolveOptions({ role: 'worker' }).role).toBe('worker');
    expect(resolveOptions({ role: 'worker' }, { MINIBATCH_ROLE: ' ' }).role).toBe('worker');
    expect(resolveOptions({ role: 'worker' }, { MINIBATCH_ROLE: 'emitter' }).role).toBe('emitter');
    expect(() => resolveOptions({ role: 'web' as never })).toThrow(/role is 'web'; allowed: 'emitter' or 'worker'/);
    expect(() => resolveOptions({}, { MINIBATCH_ROLE: 'web' })).toThrow(/MINIBATCH_ROLE is 'web'/);
  });

  it('takes an executor, and nothing that is none', () => {
    const executor = new InlineExecutor();
    expect(resolveOptions({ executor }).executor).toBe(executor);
    for (const given of ['threads', InlineExecutor, {}, null, 3, { run: true }]) {
      expect(() => resolveOptions({ executor: given as never })).toThrow(
        /executor is .*; allowed: 'inline', or an object with run\(task\)/,
      );
    }
  });

  it('takes sources in the same way', () => {
    expect(resolveOptions({ sources: ['a'] }).sources).toEqual(['a']);
    expect(resolveOptions({ sources: ['a'] }, { MINIBATCH_SOURCES: 'b, c' }).sources).toEqual(['b', 'c']);
    expect(resolveOptions({}, { MINIBATCH_SOURCES: 'none' }).sources).toEqual([]);
  });

  it.each(['MINIBATCH_CONSUMERS', 'MINIBATCH_SOURCES'])('refuses %s with commas alone', (variable) => {
    for (const given of [',', ' , ', ',,\t,']) {
      const resolve = () => resolveOptions({}, { [variable]: given });
      expect(resolve).toThrow(expect.objectContaining({ code: ErrorCode.InvalidOptions }));
      expect(resolve).toThrow(`${variable} is '${given}'; allowed: a comma list of`);
    }
  });

  it.each([
    ['leaseTime', { leaseTime: 15 }, '15'],
    ['leaseTime', { leaseTime: 'long' }, "'long'"],
    ['readAhead', { readAhead: 0 }, '0'],
    ['readAheadBytes', { readAheadBytes: 1.5 }, '1.5'],
    ['retry.backoff', { retry: { backoff: 0 } }, '0'],
    ['shutdownTimeout', { shutdownTimeout: -1 }, '-1'],
    ['autoStart', { autoStart: 'false' }, "'false'"],
    ['sources', { sources: 'flights' }, "'flights'"],
    ['consumers', { consumers: 'flights' }, "'flights'"],
    ['consumers[1]', { consumers: ['a', 5] }, '5'],
    ['leasTime', { leasTime: 5 }, 'unknown option'],
  ])('refuses %s: %j', (option, options, given) => {
    expect(() => resolveOptions(options as never)).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions, details: expect.objectContaining({ option }) }),
    );
    expect(() => resolveOptions(options as never)).toThrow(given);
  });
});
