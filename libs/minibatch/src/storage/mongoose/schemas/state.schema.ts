import { Schema } from 'mongoose';
import type { mongo } from 'mongoose';
import { schemaOptions } from './schema-options.js';

/**
 * A row of a consumer's state; or what is left of a removed row, without a value; or a note that a whole state was removed, whose `_id` is
 * the state's id alone.
 */
export interface StateDocument {
  /** See `state-keys.ts`. */
  _id: string;
  /** Which commit decided it: it is replaced by later ones alone. Absent from a note. */
  version?: string;
  value?: mongo.Binary;
  /** State, time and slot; absent from a row that is not due. */
  dueKey?: string;
  /** When the row, or the state, was removed. */
  settled?: Date;
  /** The state was removed. */
  dropped?: true;
}

export const StateSchema = new Schema<StateDocument>(
  {
    _id: { type: String, required: true },
    version: String,
    value: Schema.Types.Buffer,
    dueKey: String,
    settled: Date,
    dropped: Boolean,
  },
  schemaOptions('state'),
);
