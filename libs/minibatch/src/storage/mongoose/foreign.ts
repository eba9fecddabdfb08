import { mongo } from 'mongoose';
import type { RawDocument } from './raw-document.js';
import type { BufferDocument } from './schemas/buffer.schema.js';

/** The least `ObjectId`. A comparison with it finds values of its own type alone, by the index on `_id`. */
const LEAST_ID = new mongo.ObjectId('0'.repeat(24));
const DATE = 9;
export const ARRAY = 4;

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

/** The same of a document that was found by its `ObjectId`. */
export function isMessage(document: RawDocument): boolean {
  const partition = document.get('partition') ?? 0;
  return (
    document.get('created') instanceof Date &&
    isListOrUndefined(document.get('done')) &&
    isListOrUndefined(document.get('waits')) &&
    (typeof partition === 'bigint' || typeof partition === 'number') &&
    partition >= 0
  );
}

function isListOrUndefined(marks: unknown): boolean {
  return marks === undefined || Array.isArray(marks);
}

/** The groups of `$done` as one string, each behind a NUL: lists with the same first element are one to some servers that group by them. */
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
