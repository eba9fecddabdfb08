import { Schema } from 'mongoose';
import type { Types } from 'mongoose';
import { schemaOptions } from './schema-options.js';

/** A message that a group gave up, and why. */
export interface DeadletterDocument {
  /** See `letterId`. */
  _id: string;
  stream: string;
  group: string;
  /** Absent means 0. */
  partition?: number;
  /** `_id` that the message had in the buffer. */
  message: Types.ObjectId;
  created: Date;
  data?: unknown;
  /**
   * True: an int64 in `data` is a bigint. Absent, as in messages of Python: it is a number if that is exact. Copied wherever `data` is
   * copied.
   */
  bigints?: boolean;
  key?: string;
  headers?: Readonly<Record<string, string>>;
  /** Public id of the window it was in. */
  window: string;
  consumer: string;
  attempts: number;
  error: string;
  stack?: string;
  died: Date;
  /** The `_id`s of copies that redrives have put into the buffer; the first one counts, see `redrive.ts`. */
  copies?: Types.ObjectId[];
}

export const DeadletterSchema = new Schema<DeadletterDocument>(
  {
    _id: { type: String, required: true },
    stream: { type: String, required: true },
    group: { type: String, required: true },
    partition: Number,
    message: { type: Schema.Types.ObjectId, required: true },
    created: { type: Date, required: true },
    data: Schema.Types.Mixed,
    bigints: Boolean,
    key: String,
    headers: Schema.Types.Mixed,
    window: String,
    consumer: String,
    attempts: Number,
    error: String,
    stack: String,
    died: { type: Date, required: true },
    copies: { type: [Schema.Types.ObjectId], default: undefined },
  },
  schemaOptions('deadletter'),
);
