import { Binary, Decimal128, Long } from 'bson';
import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import type { Window } from '../../windows/window.js';
import { recordsOf } from './result-records.js';

const window = { id: 'w' } as Window;
const writing = {
  where: 'Reports',
  key: undefined,
  headers: undefined,
  value: undefined,
  idHeader: 'minibatch-id' as const,
};

describe('the record of a result', () => {
  it('counts key, value and headers in bytes, not in characters', () => {
    const [plain] = recordsOf({ ...writing, idHeader: false }, '', window);
    const [record] = recordsOf(
      { ...writing, idHeader: false, key: () => 'ü', headers: () => ({ ä: 'ö' }) },
      'ß',
      window,
    );
    // Two quotes around the value, and 8 that a header costs.
    expect((record?.bytes ?? 0) - (plain?.bytes ?? 0)).toBe(2 + 2 + 8 + 2 + 2);
  });

  it('has all digits of large numbers, and bytes as they are', () => {
    const valueOf = (result: unknown) => recordsOf(writing, result, window)[0]?.message.value;
    const large = { id: Long.fromString('9007199254740993'), n: -9007199254740993n, d: Decimal128.fromString('1.10') };
    expect(valueOf(large)).toBe('{"id":9007199254740993,"n":-9007199254740993,"d":1.10}');
    expect(valueOf(new Binary(Buffer.from([0, 255])))).toEqual(Buffer.from([0, 255]));
    expect(valueOf(new Uint8Array([0, 255]))).toEqual(Buffer.from([0, 255]));
  });

  it('has no key for null and undefined', () => {
    for (const key of [() => null, () => undefined]) {
      expect(recordsOf({ ...writing, key }, 1, window)[0]?.message).not.toHaveProperty('key');
    }
  });

  it('lets nobody take the place of the window’s id', () => {
    const headers = () => ({ 'minibatch-id': 'forged' });
    expect(recordsOf({ ...writing, headers }, 1, window)[0]?.message.headers).toEqual({ 'minibatch-id': 'w' });
  });

  it('is refused where something throws when it is read', () => {
    const unreadable = (target: object, key: PropertyKey) =>
      Object.defineProperty(target, key, {
        enumerable: true,
        get: () => {
          throw new Error('boom');
        },
      });
    const { proxy, revoke } = Proxy.revocable([], {});
    revoke();
    const headers = () => unreadable({}, 'key') as Record<string, string>;
    for (const make of [
      () => recordsOf(writing, unreadable([1, 2], 1), window),
      () => recordsOf(writing, [unreadable({}, 'key')], window),
      () => recordsOf(writing, proxy, window),
      () => recordsOf({ ...writing, headers }, 1, window),
    ]) {
      expect(make).toThrow(expect.objectContaining({ code: ErrorCode.ResultRefused }) as Error);
    }
  });
});
