import { mongo } from 'mongoose';
import { decodeField, type RawDocument, type RawField } from './raw-document.js';
import type { BufferDocument } from './schemas/buffer.schema.js';

/** The least `ObjectId`. A comparison with it matches only values of the same type, by the index on `_id`. */
export const LEAST_ID = new mongo.ObjectId('0'.repeat(24));
const OBJECT_ID = 7;
const DATE = 9;
const NULL = 10;
export const ARRAY = 4;
/** Double, int32, int64, decimal128. */
const NUMBERS = new Set([1, 16, 18, 19]);

/** Matches documents whose marks and partition can be read and written. Not by `$or`, because several reads have another `$or`. */
export const WELL_FORMED: { readonly $nor: mongo.Filter<BufferDocument>[] } = {
  $nor: [
    { done: { $exists: true, $not: { $type: ARRAY } } },
    { waits: { $exists: true, $not: { $type: ARRAY } } },
    { partition: { $type: ARRAY } },
    // A comparison matches only values of the same type.
    { partition: { $ne: null as never, $not: { $gte: 0 } } },
  ],
};

/**
 * Matches messages. Other programs may write into the collection as well. A document is foreign if its `_id` is not an `ObjectId` or its
 * `created` is not a date, because then it has no place in the order of the stream. It is also foreign if `done` or `waits` is present but
 * not a list, or if `partition` is neither null nor a number from 0 up, because then no group could find or mark it. Reads skip foreign
 * documents, and the status counts them. An unexpected value in any other field does no harm.
 *
 * This filter, the expression and the function below are equivalent.
 */
export const MESSAGES = {
  _id: { $gte: LEAST_ID },
  // `$type` also matches an array by the types of its elements.
  created: { $type: DATE, $not: { $type: ARRAY } },
  ...WELL_FORMED,
} as const satisfies mongo.Filter<BufferDocument>;

/**
 * The same condition as an expression. It relies on the order in which MongoDB sorts values of different types, because not every server
 * can tell the type of a value. Between the least `ObjectId` and `false` there is nothing but `ObjectId`s, between `true` and the least
 * timestamp nothing but dates, and between 0 and the least string nothing but numbers.
 */
export const IS_MESSAGE = {
  $and: [
    { $gte: ['$_id', LEAST_ID] },
    { $lt: ['$_id', false] },
    { $gt: ['$created', true] },
    { $lt: ['$created', new mongo.Timestamp(0n)] },
    isListOrAbsent('$done'),
    isListOrAbsent('$waits'),
    { $or: [{ $lte: ['$partition', null] }, { $and: [{ $gte: ['$partition', 0] }, { $lt: ['$partition', ''] }] }] },
  ],
};

/** Some servers treat an absent field as null in a comparison, others in `$in`: the field is null if both say so. */
function isListOrAbsent(field: string) {
  const isNull = { $and: [{ $eq: [field, null] }, { $in: [field, [null]] }] };
  const isAbsent = { $and: [{ $lte: [field, null] }, { $not: [isNull] }, { $ne: [field, new mongo.MinKey()] }] };
  return { $or: [{ $isArray: field }, isAbsent] };
}

/** The same condition for a document that was read, by the types of its fields: nothing is decoded except an unusual partition. */
export function isMessage(document: RawDocument): boolean {
  const { _id, created, done, waits, partition } = document.messageFields;
  return (
    _id?.[0] === OBJECT_ID &&
    created?.[0] === DATE &&
    isListOrUndefined(done) &&
    isListOrUndefined(waits) &&
    isPartition(document, partition)
  );
}

function isListOrUndefined(field: RawField | undefined): boolean {
  return field === undefined || field[0] === ARRAY;
}

function isPartition(document: RawDocument, field: RawField | undefined): boolean {
  if (field === undefined || field[0] === NULL) return true;
  return NUMBERS.has(field[0]) && Number(decodeField(document.bytes, field)) >= 0;
}

/** The groups of `$done` as one string, each after a NUL: some servers group lists by their first element only. */
export const DONE = {
  $reduce: {
    // Foreign documents are grouped as well.
    input: { $cond: [{ $isArray: '$done' }, '$done', []] },
    initialValue: '',
    // Everything between the least string and the least object is a string.
    in: {
      $concat: [
        '$$value',
        '\0',
        { $cond: [{ $and: [{ $gte: ['$$this', ''] }, { $lt: ['$$this', {}] }] }, '$$this', ''] },
      ],
    },
  },
};
