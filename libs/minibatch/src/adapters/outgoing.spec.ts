import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AppendError, ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { SourceTarget } from '../sources/source.interface.js';
import { appendStorable, ask, isNotStorable } from './outgoing.js';

/** Refuses what is odd: before anything is written, or after the others are. */
class Target implements SourceTarget {
  readonly name = 'rows';
  readonly stored: number[] = [];
  constructor(private readonly says: 'before' | 'after') {}

  append: SourceTarget['append'] = async (data) => {
    const { n, code } = data as { n: number; code: ErrorCode | undefined };
    if (code !== undefined) throw new MinibatchError(code, `number ${n}`);
    this.stored.push(n);
  };

  appendMany: SourceTarget['appendMany'] = async (data) => {
    const rows = data as readonly { n: number; code: ErrorCode | undefined }[];
    const odd = rows.find(({ code }) => code !== undefined);
    if (odd && this.says === 'before') throw new MinibatchError(odd.code ?? ErrorCode.NotStorable, `number ${odd.n}`);
    const failed = rows.flatMap(({ n, code }, index) =>
      code === undefined ? [] : [{ index, stored: 'no', error: new MinibatchError(code, `number ${n}`) }],
    );
    this.stored.push(...rows.flatMap(({ n, code }) => (code === undefined ? [n] : [])));
    if (failed.length > 0) throw new AppendError(ErrorCode.AppendFailed, 'some', 'no', { details: { failed } });
  };

  position = () => Promise.resolve(undefined);
}

const REFUSALS = [ErrorCode.NotStorable, ErrorCode.MessageTooLarge] as const;

describe('appending what can be stored', () => {
  it('stores each of the others once and in order, and tells which ones it could not', async () => {
    const codes = fc.array(fc.option(fc.constantFrom(...REFUSALS), { nil: undefined }), { maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(codes, fc.constantFrom('before', 'after'), async (given, says) => {
        const target = new Target(says);
        const messages = given.map((code, n) => ({ data: { n, code }, options: {} }));
        const refused = await appendStorable(target, messages);
        const numbers = [...given.keys()];
        expect(target.stored).toEqual(numbers.filter((n) => given[n] === undefined));
        expect(refused.map(({ message }) => message.data.n)).toEqual(numbers.filter((n) => given[n] !== undefined));
        expect(refused.map(({ error }) => error.message)).toEqual(
          refused.map(({ message }) => expect.stringContaining(`number ${message.data.n} `)),
        );
      }),
    );
  });

  it('appends the substitute of a refused message in its place', async () => {
    const target = new Target('before');
    const messages = [0, 1, 2].map((n) => ({
      data: { n, code: n === 1 ? ErrorCode.NotStorable : undefined },
      options: {},
    }));
    const substitute = ({ data: { n }, options }: (typeof messages)[number]) => ({
      data: { n: n * 10, code: undefined },
      options,
    });
    expect(await appendStorable(target, messages, substitute)).toEqual([]);
    expect(target.stored).toEqual([0, 10, 2]);
  });

  it.each(['before', 'after'] as const)('throws what is no fault of a message (%s the write)', async (says) => {
    const codes = [undefined, ErrorCode.NotStorable, ErrorCode.StoreUnavailable];
    const messages = codes.map((code, n) => ({ data: { n, code }, options: {} }));
    await expect(appendStorable(new Target(says), messages)).rejects.toBeInstanceOf(MinibatchError);
    await expect(appendStorable(new Target(says), messages.slice(2))).rejects.toMatchObject({
      code: says === 'before' ? ErrorCode.StoreUnavailable : ErrorCode.AppendFailed,
    });
  });
});

describe('data that no store has a form for', () => {
  it.each([
    [ErrorCode.NotStorable, 'data.a', true],
    [ErrorCode.NotStorable, undefined, true],
    [ErrorCode.NotStorable, 'dedupeId', false],
    [ErrorCode.MessageTooLarge, 'data', false],
  ])('are told by the error: %s at %s', (code, path, expected) => {
    expect(isNotStorable(new MinibatchError(code, 'odd', { details: { path } }))).toBe(expected);
  });
});

describe('a function of the options', () => {
  it('gives its value', () => {
    expect(ask('Feed', 'key', () => 'k')).toBe('k');
  });

  it.each([
    () => {
      throw new Error('no');
    },
    () => {
      throw Object.create(null);
    },
    () => Promise.resolve('k'),
    () => Promise.reject(new Error('nobody hears it')),
  ])('%# that throws, or gives a promise, is named', (work: () => unknown) => {
    expect(() => ask('Feed', 'key', work)).toThrow(
      expect.objectContaining({ code: ErrorCode.SourceFailed, details: { option: 'key' } }),
    );
  });
});
