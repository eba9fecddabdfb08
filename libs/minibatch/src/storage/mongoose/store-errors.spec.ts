import { mongo } from 'mongoose';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { messageOf, openStore, type TestStore } from '../../../../../test/support/mongoose-store.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { asStoreError, isOutOfReach } from './store-errors.js';

const serverError = (code: number, errmsg: string, ...errorLabels: string[]) =>
  new mongo.MongoServerError({ code, errmsg, message: errmsg, errorLabels });

describe('a server that denies', () => {
  it.each([
    ['a right', serverError(13, 'not authorized on app to execute command'), /grant it the role readWrite/],
    ['to sign in', serverError(18, 'Authentication failed.', 'HandshakeError'), /password and authSource/],
    ['to sign in at Atlas', serverError(8000, 'bad auth : authentication failed'), /password and authSource/],
  ])('%s, is not away', (_, cause, advice) => {
    const error = asStoreError('fetch', cause);
    expect(error).toMatchObject({ code: ErrorCode.StoreDenied, cause, details: { operation: 'fetch' } });
    expect(error.details).not.toHaveProperty('outOfReach');
    expect(error.message).toMatch(advice);
    expect(isOutOfReach(cause)).toBe(false);
  });

  it.each([
    serverError(8000, 'over the limit of collections'),
    serverError(11_600, 'shutting down'),
    new mongo.MongoNetworkError('closed'),
  ])('nothing, is only unavailable: %s', (cause) => {
    expect(asStoreError('fetch', cause).code).toBe(ErrorCode.StoreUnavailable);
  });
});

describe('a store whose user lacks a right', () => {
  let test: TestStore;
  beforeEach(async () => (test = await openStore()));
  afterEach(async () => {
    vi.restoreAllMocks();
    await test.dispose();
  });

  it('says so where it reads and where it appends, which is not repeated', async () => {
    const { store } = test;
    await store.ensureStream('flights');
    const denied = serverError(13, 'not authorized on app');
    const command = vi.spyOn(mongo.Db.prototype, 'command').mockRejectedValue(denied);
    const insertOne = vi.spyOn(mongo.Collection.prototype, 'insertOne').mockRejectedValue(denied);
    vi.spyOn(mongo.Collection.prototype, 'findOne').mockRejectedValue(denied);
    await expect(store.describeStream('flights')).rejects.toMatchObject({ code: ErrorCode.StoreDenied });
    const [outcome] = await store.append([messageOf('flights', 1)]);
    expect(outcome).toMatchObject({
      status: 'failed',
      error: { code: ErrorCode.StoreDenied, stored: 'no', cause: denied },
    });
    expect(outcome).toHaveProperty('error.message', expect.stringMatching(/could not append: .* role readWrite/));
    expect(outcome).toHaveProperty('error.message', expect.not.stringContaining('Consumers'));
    expect(outcome).not.toHaveProperty('storeAway');
    expect(command.mock.calls.length + insertOne.mock.calls.length).toBe(1);
  });

  it('says so for several messages of one append, too', async () => {
    const { store } = test;
    const denied = serverError(13, 'not authorized on app');
    vi.spyOn(mongo.Db.prototype, 'command').mockRejectedValue(denied);
    const outcomes = await store.append([messageOf('flights', 1), messageOf('flights', 2)]);
    const outcome = { status: 'failed', error: { code: ErrorCode.StoreDenied, stored: 'no' } };
    expect(outcomes).toMatchObject([outcome, outcome]);
  });

  it('says so in a transaction, which has to be aborted', async () => {
    const { store } = test;
    vi.spyOn(mongo.Collection.prototype, 'insertMany').mockRejectedValue(serverError(13, 'not authorized on app'));
    await expect(
      store.append([messageOf('flights', 1)], { session: { inTransaction: () => true } }),
    ).rejects.toMatchObject({
      name: 'AppendError',
      code: ErrorCode.StoreDenied,
      stored: 'no',
      message: expect.stringMatching(/abort it.* role readWrite/),
    });
  });
});
