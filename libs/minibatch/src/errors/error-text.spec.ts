import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { asError, cut, isA, messageOf, MOST_MESSAGE_BYTES, MOST_STACK_BYTES, stackOf } from './error-text.js';
import { AppendError, bareMessageOf, ErrorCode, MinibatchError } from './minibatch.error.js';

class Odd extends Error {
  constructor(
    property: 'message' | 'stack',
    private readonly value: unknown,
  ) {
    super('plain');
    Object.defineProperty(this, property, { get: () => this.read() });
  }
  private read(): unknown {
    if (this.value instanceof Error) throw this.value;
    return this.value;
  }
}

const hostile: ProxyHandler<object> = {
  get() {
    throw new Error('get');
  },
  getPrototypeOf() {
    throw new Error('getPrototypeOf');
  },
  has() {
    throw new Error('has');
  },
  ownKeys() {
    throw new Error('ownKeys');
  },
};

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

const cyclic = new Error('round and round');
cyclic.cause = cyclic;

describe('messageOf', () => {
  it.each<[string, unknown, string]>([
    ['an error', new Error('oh'), 'oh'],
    ['a text', 'text', 'text'],
    ['nothing', undefined, 'undefined'],
    ['null', null, 'null'],
    ['a bigint', 10n, '10'],
    ['a symbol', Symbol('s'), 'Symbol(s)'],
    ['an object without a prototype', Object.create(null), '[object Object]'],
    [
      'an object whose toString throws',
      {
        toString() {
          throw new Error('not even that');
        },
      },
      '[object Object]',
    ],
    ['an object with a message', { code: 14, message: 'unavailable' }, 'unavailable'],
    ['an object without one', { code: 14 }, '{"code":14}'],
    ['an error without a message', new TypeError(), 'TypeError'],
    ['a message that is a number', new Odd('message', 42), 'Error: 42'],
    ['a message that is an object', new Odd('message', { reason: 'no' }), 'Error: {"reason":"no"}'],
    ['a message that is a symbol', new Odd('message', Symbol('s')), 'Error: Symbol(s)'],
    ['a message whose getter throws', new Odd('message', new Error('no')), 'Error'],
    ['a proxy whose traps throw', new Proxy({}, hostile), 'an error that cannot be read'],
    ['a revoked proxy', revoked(), 'an error that cannot be read'],
    ['a cyclic cause', cyclic, 'round and round'],
  ])('makes a text of %s', (_, thrown, message) => {
    expect(messageOf(thrown)).toBe(message);
  });

  it('takes anything, and is never longer than it may be', () => {
    fc.assert(
      fc.property(fc.anything({ withNullPrototype: true, withBigInt: true, withDate: true }), (value) => {
        for (const thrown of [value, new Odd('message', value), new Odd('stack', value)]) {
          expect(Buffer.byteLength(messageOf(thrown))).toBeLessThanOrEqual(MOST_MESSAGE_BYTES);
          expect(['string', 'undefined']).toContain(typeof stackOf(thrown));
        }
      }),
    );
  });

  it('cuts in bytes, keeps the code of our own errors and says how much is missing', () => {
    const message = messageOf(new MinibatchError(ErrorCode.SinkFailed, '✈'.repeat(1_000_000)));
    expect(Buffer.byteLength(message)).toBeLessThanOrEqual(MOST_MESSAGE_BYTES);
    expect(message).toMatch(/^✈+ … \(\d+ bytes cut\) \[MINIBATCH_SINK_FAILED\]$/);
  });
});

describe('stackOf', () => {
  it('keeps the frames below a message of megabytes', () => {
    const stack = stackOf(new Error('x'.repeat(5_000_000))) ?? '';
    expect(Buffer.byteLength(stack)).toBeLessThanOrEqual(MOST_STACK_BYTES);
    expect(stack).toContain('bytes cut)\n    at ');
  });

  it.each<[string, unknown]>([
    ['no error', 'text'],
    ['a stack that is no text', new Odd('stack', { frames: [] })],
    ['a stack whose getter throws', new Odd('stack', new Error('no'))],
    ['a proxy whose traps throw', new Proxy({}, hostile)],
  ])('is none for %s', (_, thrown) => {
    expect(stackOf(thrown)).toBeUndefined();
  });
});

describe('cut', () => {
  it('never splits a character and never exceeds its bytes', () => {
    const input = fc.record({
      text: fc.string({ unit: 'binary', maxLength: 400 }),
      most: fc.integer({ min: 60, max: 300 }),
    });
    fc.assert(
      fc.property(input, ({ text, most }) => {
        const result = cut(text, most);
        expect(Buffer.byteLength(result)).toBeLessThanOrEqual(most);
        const [, kept, missing] = /^(.*) … \((\d+) bytes cut\)$/s.exec(result) ?? [];
        if (Buffer.byteLength(text) <= most) expect(result).toBe(text);
        else {
          expect(text.startsWith(kept as string)).toBe(true);
          expect(Buffer.byteLength(kept as string) + Number(missing)).toBe(Buffer.byteLength(text));
        }
      }),
    );
  });
});

describe('asError, isA', () => {
  it('take what can not even be looked at', () => {
    const odd = new Proxy({}, hostile);
    expect(isA(odd, Error)).toBe(false);
    const made = asError(odd);
    expect(made.message).toBe('an error that cannot be read');
    expect(made.cause === odd).toBe(true);
    const error = new Error('as it is');
    expect(asError(error)).toBe(error);
  });
});

describe('bareMessageOf', () => {
  it('is the message of our own errors without their code, and that of any other as it is', () => {
    const quoted = new MinibatchError(ErrorCode.SinkFailed, 'it said [MINIBATCH_ODD] [MINIBATCH_ODD]');
    expect(bareMessageOf(quoted)).toBe('it said [MINIBATCH_ODD] [MINIBATCH_ODD]');
    expect(bareMessageOf(new AppendError(ErrorCode.AppendFailed, 'lost', 'no'))).toBe('lost');
    expect(bareMessageOf(new Error('plain [MINIBATCH_ODD]'))).toBe('plain [MINIBATCH_ODD]');
    expect(bareMessageOf('text')).toBe('text');
    const long = bareMessageOf(new MinibatchError(ErrorCode.SinkFailed, 'x'.repeat(5_000)));
    expect(long).toMatch(/^x+ … \(\d+ bytes cut\)$/);
    expect(Buffer.byteLength(long)).toBeLessThanOrEqual(MOST_MESSAGE_BYTES);
  });

  it('is in no property of an error, so that it is not printed twice', () => {
    expect(Object.keys(new MinibatchError(ErrorCode.SinkFailed, 'once')).toSorted()).toEqual([
      'code',
      'details',
      'name',
    ]);
  });
});
