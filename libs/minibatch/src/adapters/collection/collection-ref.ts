import type { mongo } from 'mongoose';
import type { Clock } from '../../common/clock.js';
import { FailureReason } from '../failure-reason.js';
import { checkBsonVersion } from '../../common/bson-version.js';
import { type ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { invalidOption } from '../../common/checks.js';

// The parts that are needed, as types of the package's own: it has to compile where Mongoose is not installed.

/** A collection of the driver, of any document type. */
export interface NativeCollection {
  readonly collectionName: string;
  readonly dbName: string;
  readonly namespace: string;
}

/** A connection of Mongoose. */
export interface ConnectionLike {
  asPromise(): Promise<unknown>;
  readonly db?: { collection(name: string, options?: object): NativeCollection } | undefined;
}

/** A Mongoose model, of any document type. */
export interface ModelLike {
  readonly db: ConnectionLike;
  readonly collection: { readonly name: string };
}

/** Finds the name of a collection: at every start of a source, with its clock, and for every result of a sink. */
export type CollectionFinder = (signal?: AbortSignal, clock?: Clock) => Promise<string>;

/** What each way to name a collection narrows, with texts that editors show. */
interface AnyCollectionRef {
  /** A Mongoose connection, on which `collection` is a name. @default none: given by `model`, or by a collection of the driver */
  readonly connection?: ConnectionLike;
  /** The name, or a function that finds it; without `connection` a collection of the driver. @default the collection of `model` */
  readonly collection?: string | CollectionFinder | NativeCollection;
  /** A Mongoose model, whose collection it is. @default none: give `collection` */
  readonly model?: ModelLike;
}

interface NamedCollection extends AnyCollectionRef {
  readonly connection: ConnectionLike;
  readonly collection: string | CollectionFinder;
  readonly model?: never;
}

interface DriverCollection extends AnyCollectionRef {
  readonly collection: NativeCollection;
  readonly connection?: never;
  readonly model?: never;
}

interface ModelCollection extends AnyCollectionRef {
  readonly model: ModelLike;
  readonly connection?: never;
  readonly collection?: never;
}

/**
 * Which collection is read or written: by name, or by a function that finds the name, on a Mongoose connection; a collection of the
 * driver; or that of a model.
 */
export type CollectionRef = NamedCollection | DriverCollection | ModelCollection;

export const COLLECTION_REF_KEYS = ['connection', 'collection', 'model'] as const;

/** @internal */
export interface OpenOptions {
  /** Of the collection, whatever the application's connection says. */
  readonly collection?: mongo.CollectionOptions;
  /** Code of the error while the connection is not open. */
  readonly whenClosed: ErrorCode;
}

/**
 * The signal ends a search for the collection, the clock is what it waits by.
 *
 * @internal
 */
export type OpenCollection = (signal?: AbortSignal, clock?: Clock) => Promise<mongo.Collection>;

/**
 * Checks the reference; the returned function opens it, any number of times.
 *
 * @throws MinibatchError `InvalidOptions`
 * @internal
 */
export function checkCollectionRef(where: string, ref: CollectionRef, options: OpenOptions): OpenCollection {
  const { connection, collection, model } = ref;
  const given = [connection !== undefined, model !== undefined, isNative(collection)].filter(Boolean).length;
  if (given !== 1) throw whichOne(where, ref);
  if (isNative(collection)) return () => Promise.resolve(collection);
  if (model !== undefined) return () => open(where, model.db, model.collection.name, options);
  if (connection !== undefined && typeof collection === 'function') {
    return async (signal, clock) => open(where, connection, await collection(signal, clock), options);
  }
  if (connection !== undefined && typeof collection === 'string' && collection !== '') {
    return () => open(where, connection, collection, options);
  }
  throw whichOne(where, ref);
}

function whichOne(where: string, { connection, collection, model }: CollectionRef): MinibatchError {
  const allowed =
    "one of { connection, collection: 'name' or a function that finds it }, { collection: a collection of the driver }, { model }";
  return invalidOption(where, 'connection, collection, model', [connection, collection, model], allowed);
}

/** A collection of Mongoose is not one: it buffers, and lacks methods of the driver's. */
function isNative(given: unknown): given is mongo.Collection {
  return (
    typeof given === 'object' &&
    given !== null &&
    'namespace' in given &&
    typeof given.namespace === 'string' &&
    'watch' in given &&
    typeof given.watch === 'function'
  );
}

async function open(
  where: string,
  connection: ConnectionLike,
  name: string,
  { collection, whenClosed }: OpenOptions,
): Promise<mongo.Collection> {
  checkBsonVersion(where, connection);
  await connection.asPromise();
  // Read each time: after an application has closed its connection and opened it again, the database is another object.
  const { db } = connection;
  // The driver's own: `ConnectionLike` names no more of it than a reference needs.
  if (db) return db.collection(name, collection) as mongo.Collection;
  throw new MinibatchError(
    whenClosed,
    `${where}: the Mongoose connection of '${name}' is not open; the attempt is repeated`,
    { details: { reason: FailureReason.Unreachable, collection: name } },
  );
}
