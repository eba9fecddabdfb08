import { Timestamp } from 'bson';
import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { SYSTEM_CLOCK } from '../../common/clock.js';
import type { LostTokenPolicy } from './collection-source.options.js';
import { resolveReading } from './collection-source.options.js';
import { startAfterLoss, timeOfToken } from './lost-position.js';

describe('a position that is lost', () => {
  const collection = { namespace: 'shop.orders', watch: () => undefined };
  const since = new Date('2026-01-02T03:04:05.000Z');

  function begin(onLostToken: LostTokenPolicy, more: Parameters<typeof startAfterLoss>[3] = {}) {
    const lines: string[] = [];
    const reading = {
      ...resolveReading('Feed', { collection: collection as never, onLostToken }),
      clock: SYSTEM_CLOCK,
      log: { log: () => undefined, error: () => undefined, warn: (line: string) => void lines.push(line) },
    };
    return { lines, beginning: startAfterLoss(reading, 'shop.orders', 'the oplog is too small', more) };
  }

  it("'now' warns of what is skipped, and since when", () => {
    const { lines, beginning } = begin('now', { since, cause: new Error('history lost') });
    expect(beginning).toEqual({ snapshot: false });
    expect(lines).toEqual([
      "Feed: the stored position cannot be resumed: the oplog is too small (history lost). onLostToken is 'now': what was written to shop.orders since 2026-01-02T03:04:05.000Z is skipped",
    ]);
    expect(begin('now').lines).toEqual([
      expect.stringContaining('written to shop.orders since that position is skipped'),
    ]);
  });

  it("'snapshot' warns of what is appended again", () => {
    const { lines, beginning } = begin('snapshot', { since });
    expect(beginning).toEqual({ snapshot: true });
    expect(lines).toEqual([expect.stringContaining("onLostToken is 'snapshot': all of shop.orders is read again")]);
  });

  it("'fail' throws instead", () => {
    const failed = expect.objectContaining({
      code: ErrorCode.SourceFailed,
      details: { reason: 'LOST_POSITION', onLostToken: 'fail' },
    });
    expect(() => begin('fail')).toThrow(failed as never);
  });

  it.each([
    [{ startAfter: { _data: `82${Math.floor(since.getTime() / 1000).toString(16)}000000012B` } }, since],
    [{ startAtOperationTime: new Timestamp({ t: since.getTime() / 1000, i: 7 }) }, since],
    [{ startAfter: { _data: 'of another server' } }, undefined],
    [{ startAfter: 7 }, undefined],
    [undefined, undefined],
  ])('tells the time of the token %o', (start, expected) => {
    expect(timeOfToken(start)).toEqual(expected);
  });
});
