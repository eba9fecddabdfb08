import { mongo } from 'mongoose';
import { decodeField, type RawDocument, type RawField } from './raw-document.js';
import type { BufferDocument } from './schemas/buffer.schema.js';

/** The least `ObjectId`. A comparison with it finds values of its own type alone, by the index on `_id`. */
export const LEAST_ID = new mongo.ObjectId('0'.repeat(24));
const OBJECT_ID = 7;
const DATE = 9;
const NULL = 10;
export const ARRAY = 4;
/** Double, int32, int64, decimal128. */
const NUMBERS = new Set([1, 16, 18, 19]);

/** A filter for documents whose marks and partition can be read and written. Not `$or`: several reads have one of their own. */
export const WELL_FORMED: { readonly $nor: mongo.Filter<BufferDocument>[] } = {
  $nor: [
    { done: { $exists: true, $not: { $type: ARRAY } } },
    { waits: { $exists: true, $not: { $type: ARRAY } } },
    { partition: { $type: ARRAY } },
    // A comparison finds values of its own type alone.
    { partition: { $ne: null as never, $not: { $gte: 0 } } },
  ],
};

/**
 * What a message looks like. Others may write into the collection, too. A document is foreign if its `_id` is no `ObjectId` or its
 * `created` no date, since it has no place in the order of the stream. It is also foreign if `done` or `waits` is present but not a list,
 * or if `partition` is neither null nor a number from 0 up, since no group could find or mark it. Reads pass foreign documents over, and
 * the status counts them. An odd value in any other field does no harm.
 *
 * This filter, the expression and the function below say the same.
 */
export const MESSAGES = {
  _id: { $gte: LEAST_ID },
  // An array is of the type of its elements, too.
  created: { $type: DATE, $not: { $type: ARRAY } },
  ...WELL_FORMED,
} as const satisfies mongo.Filter<BufferDocument>;

/**
 * The same as an expression: by the order in which MongoDB sorts values of different types, since not every server tells the type of
 * one. Between the least `ObjectId` and `false` there is nothing but `ObjectId`s, between `true` and the least timestamp nothing but
 * dates, and between 0 and the least string nothing but numbers.
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

/** Some servers take a field that is absent for null in a comparison, and others do in `$in`: it is null if both say so. */
function isListOrAbsent(field: string) {
  const isNull = { $and: [{ $eq: [field, null] }, { $in: [field, [null]] }] };
  return { $or: [{ $isArray: field }, { $and: [{ $lte: [field, null] }, { $not: [isNull] }] }] };
}

/** The same of a document that has been read, by its fields' types: nothing is decoded but an unusual partition. */
export function isMessage(document: RawDocument): boolean {
  return (
    document.find('_id')?.[0] === OBJECT_ID &&
    document.find('created')?.[0] === DATE &&
    isListOrUndefined(document.find('done')) &&
    isListOrUndefined(document.find('waits')) &&
    isPartition(document, document.find('partition'))
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
    // Foreign documents are among those that are grouped.
    input: { $cond: [{ $isArray: '$done' }, '$done', []] },
    initialValue: '',
    // Strings are what lies between the least one and the least object.
    in: {
      $concat: [
        '$$value',
        '\0',
        { $cond: [{ $and: [{ $gte: ['$$this', ''] }, { $lt: ['$$this', {}] }] }, '$$this', ''] },
      ],
    },
  },
};
