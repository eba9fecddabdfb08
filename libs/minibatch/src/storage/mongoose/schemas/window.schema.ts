import { Schema } from 'mongoose';
import type { mongo } from 'mongoose';
import { schemaOptions } from './schema-options.js';
import type { RateStart } from '../../stream-store.interface.js';

/** A window in a document that holds several. */
export interface ClaimedWindow {
  seq: number;
  /** The public id. */
  windowId: string;
  /** `_id`s of the messages, 12 bytes each, in order. */
  ids: mongo.Binary;
  start?: Date;
  end?: Date;
  part?: number;
  late?: boolean;
  dropped?: boolean;
  key?: string;
  slots?: readonly string[];
}

/**
 * A claimed window, or several small ones that were claimed together: a document for each would cost more than their messages. A window
 * that is changed or kept gets its own document; while both exist, that one counts.
 *
 * `data` and `query` belong to Python. This package sets `data` when a window is kept and its data fit.
 */
export interface WindowDocument extends Partial<ClaimedWindow> {
  /** Consumer, fence of the claim and `seq`s. So a claim can be repeated, and a late claim of a former holder is another document. */
  _id: string;
  stream: string;
  created: Date;
  data: unknown[];
  processed: boolean;
  query: unknown[];
  /** `_id` of the consumer's document. */
  consumer: string;
  /** The fence of the lease that last claimed or adopted it. */
  fence: number;
  /** Instead of `seq`, `windowId` and so on. The windows are removed one by one, or together with the document. */
  windows?: ClaimedWindow[];
  /** 1 if absent. */
  attempt?: number;
  /** 0 if absent. */
  recoveries?: number;
  nextTry?: Date | null;
  error?: string | null;
  /** When it was set aside. */
  aside?: Date | null;
  /** Sinks that have failed to take its result. */
  blockedSinks?: readonly string[] | null;
  /** The handler runs that counted against the rate limit when its handler began. */
  starts?: readonly RateStart[] | null;
  /** Present during a bisection: see `split-codec.ts`. */
  apart?: mongo.Binary;
  /** When it was committed, if it is kept. */
  settled?: Date;
}

export const WindowSchema = new Schema<WindowDocument>(
  {
    _id: { type: String, required: true },
    stream: { type: String, required: true },
    created: { type: Date, required: true },
    data: [Schema.Types.Mixed],
    processed: { type: Boolean, required: true },
    query: [Schema.Types.Mixed],
    consumer: String,
    seq: Number,
    windowId: String,
    ids: Schema.Types.Buffer,
    fence: Number,
    windows: { type: [Schema.Types.Mixed], default: undefined },
    start: Date,
    end: Date,
    part: Number,
    late: Boolean,
    dropped: Boolean,
    key: String,
    slots: { type: [String], default: undefined },
    attempt: Number,
    recoveries: Number,
    nextTry: Date,
    error: String,
    aside: Date,
    blockedSinks: { type: [String], default: undefined },
    starts: { type: [Schema.Types.Mixed], default: undefined },
    apart: Schema.Types.Buffer,
    settled: Date,
  },
  schemaOptions('window'),
);
