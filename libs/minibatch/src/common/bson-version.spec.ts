import { ObjectId } from 'bson';
import mongoose from 'mongoose';
import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import { checkBsonVersion } from './bson-version.js';

/** A connection of a Mongoose that uses such a version of bson. */
const connectionOf = (version: unknown) => ({
  base: { mongo: { ObjectId: class Theirs extends ObjectIdOf(version) {} } },
});

function ObjectIdOf(version: unknown) {
  return class {
    get [Symbol.for('@@mdb.bson.version')]() {
      return version;
    }
  };
}

describe('the version of bson', () => {
  it('is that of the mongoose of these tests', () => {
    expect(mongoose.createConnection().base.mongo.ObjectId).toBe(mongoose.mongo.ObjectId);
    expect(() => checkBsonVersion('The store', mongoose.createConnection())).not.toThrow();
  });

  it('must be the same as that of mongoose, and the error says how to make it so', () => {
    const ours: unknown = Reflect.get(ObjectId.prototype, Symbol.for('@@mdb.bson.version'));
    expect(() => checkBsonVersion('The store', connectionOf(ours))).not.toThrow();
    expect(() => checkBsonVersion('The store', connectionOf(5))).toThrowError(
      expect.objectContaining({
        code: ErrorCode.BsonVersion,
        message: expect.stringMatching(
          new RegExp(`^The store: mongoose uses version 5 .* loaded version ${String(ours)}.* npm install bson@5`),
        ) as unknown,
        details: { mongoose: 5, minibatch: ours },
      }) as Error,
    );
  });

  it.each([{}, { base: {} }, connectionOf(undefined), connectionOf('5')])(
    'is not compared where it is unknown',
    (connection) => {
      expect(() => checkBsonVersion('The store', connection)).not.toThrow();
    },
  );
});
