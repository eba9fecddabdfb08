import { mongo } from 'mongoose';
import type { BufferDocument } from './schemas/buffer.schema.js';

/** The least `ObjectId`. A comparison with it finds values of its own type alone, by the index on `_id`. */
const LEAST_ID = new mongo.ObjectId('0'.repeat(24));
const DATE = 9;
const ARRAY = 4;

/**
 * What a message looks like. Others may write into the collection, too: a document whose `_id` is a string, or whose `created` is no
 * date, has no place in the order of the stream. Reads pass it over, and the status counts it.
 */
export const MESSAGES = {
  _id: { $gte: LEAST_ID },
  // An array is of the type of its elements, too.
  created: { $type: DATE, $not: { $type: ARRAY } },
} as const satisfies mongo.Filter<BufferDocument>;

/**
 * The same as an expression: by the order in which MongoDB sorts values of different types, since not every server tells the type of
 * one. Between the least `ObjectId` and `false` there is nothing but `ObjectId`s, and between `true` and the least timestamp nothing but
 * dates.
 */
export const IS_MESSAGE = {
  $and: [
    { $gte: ['$_id', LEAST_ID] },
    { $lt: ['$_id', false] },
    { $gt: ['$created', true] },
    { $lt: ['$created', new mongo.Timestamp(0n)] },
  ],
};
