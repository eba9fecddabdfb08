import { ObjectId } from 'bson';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';

/** By which serializers recognize values of their own major version; they refuse all others. */
const VERSION = Symbol.for('@@mdb.bson.version');
const OURS = versionOf(ObjectId);

/** The classes of the bson package that the driver of a Mongoose connection has loaded. */
interface MongooseLike {
  readonly mongo?: { readonly ObjectId?: unknown };
}

/**
 * Values of a message are copied by this package and written by the driver, each with a bson package that may not be the other's.
 *
 * @throws MinibatchError `BsonVersion` if their major versions differ
 */
export function checkBsonVersion(where: string, connection: object): void {
  const { mongo } = ((connection as { base?: MongooseLike }).base ?? {}) satisfies MongooseLike;
  const theirs = versionOf(mongo?.ObjectId);
  if (theirs === undefined || theirs === OURS) return;
  throw new MinibatchError(
    ErrorCode.BsonVersion,
    `${where}: mongoose uses version ${theirs} of the bson package, but nestjs-minibatch has loaded version ${OURS}, and neither writes ` +
      `the values of the other (ObjectId, Decimal128, …). Run: npm install bson@${theirs}. With pnpm or Yarn, override the version of ` +
      `bson that nestjs-minibatch gets`,
    { details: { mongoose: theirs, minibatch: OURS } },
  );
}

function versionOf(objectId: unknown): number | undefined {
  if (typeof objectId !== 'function') return undefined;
  const version: unknown = Reflect.get(objectId.prototype as object, VERSION);
  return typeof version === 'number' ? version : undefined;
}
