import type { mongo } from 'mongoose';
import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { SYSTEM_CLOCK } from '../../common/clock.js';
import { resolveReading } from './collection-source.options.js';
import { openChanges } from './open-changes.js';

/** What a server says that refuses. */
function refusal(code: number | undefined, errorLabels: readonly string[] = []): Error {
  return Object.assign(new Error('no'), { name: 'MongoServerError', code, errorLabels });
}

/** A collection whose server answers a look with what is given: with a token and without one. */
function collectionOf(answers: { readonly resumed?: Error; readonly fresh?: Error; readonly setName?: string }) {
  const watch = (_: unknown, options: object) => ({
    resumeToken: { _data: '82' },
    tryNext: () => {
      const error = 'startAfter' in options ? answers.resumed : answers.fresh;
      return error ? Promise.reject(error) : Promise.resolve(null);
    },
    close: () => Promise.resolve(),
  });
  const command = () => Promise.resolve({ setName: answers.setName, localTime: new Date() });
  return { namespace: 'shop.orders', collectionName: 'orders', dbName: 'shop', watch, db: { command } };
}

describe('openChanges', () => {
  const token = { startAfter: { _data: '81' } };

  function open(answers: Parameters<typeof collectionOf>[0], start?: typeof token) {
    // Only what is asked of it is there.
    const collection = collectionOf(answers) as unknown as mongo.Collection;
    const reading = { ...resolveReading('Feed', { collection }), clock: SYSTEM_CLOCK, log: undefined };
    return openChanges(collection, reading, start, new AbortController().signal);
  }

  it('opens', async () => {
    expect(await open({}, token)).toHaveProperty('changes.position', { startAfter: { _data: '82' } });
  });

  it.each([286, 280, 260, 136, 40_576, 40_585, 40_615])('knows by the code %i that the token is lost', async (code) => {
    const resumed = refusal(code, ['NonResumableChangeStreamError']);
    // Not asked again: it could not say more.
    expect(await open({ resumed, fresh: new Error('not asked') }, token)).toEqual({ lost: resumed });
  });

  it('finds out that the token is lost where the code says nothing', async () => {
    const resumed = refusal(undefined);
    expect(await open({ resumed }, token)).toEqual({ lost: resumed });
  });

  it.each([undefined, 'rs0'])('keeps the token when a refusal may pass, of the replica set %s', async (setName) => {
    // Interrupted; MaxTimeMSExpired; a code that nobody knows yet.
    for (const code of [11_601, 50, 99_999]) {
      await expect(open({ resumed: refusal(code), ...(setName && { setName }) }, token)).rejects.toMatchObject({
        code: ErrorCode.SourceFailed,
        message: expect.stringMatching(
          /could not resume .* shop\.orders: no\. The stored position is kept and retried/,
        ),
      });
    }
  });

  it.each([undefined, token])(
    'takes a refusal of a server that is no replica set for a missing feature',
    async (start) => {
      const fresh = refusal(40_573);
      expect(await open({ resumed: refusal(40_573), fresh }, start)).toEqual({ unsupported: fresh });
    },
  );

  it('says what to do where a replica set refuses', async () => {
    await expect(open({ fresh: refusal(136_000), setName: 'rs0' })).rejects.toMatchObject({
      code: ErrorCode.SourceFailed,
      message: expect.stringMatching(/refuses a change stream of shop\.orders: no\. .*mode: 'cursor'/),
    });
  });

  it.each([
    ['a broken connection', Object.assign(new Error('gone'), { name: 'MongoNetworkError' })],
    ['missing rights', refusal(13)],
    ['a server that steps down', refusal(189, ['ResumableChangeStreamError'])],
  ])('does not take %s for either', async (_, error) => {
    await expect(open({ resumed: error, fresh: error }, token)).rejects.toBe(error);
    await expect(open({ fresh: error })).rejects.toBe(error);
  });
});
