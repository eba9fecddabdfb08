import { Schema } from 'mongoose';
import type { mongo } from 'mongoose';
import { schemaOptions } from './schema-options.js';
import type { RateStart } from '../../stream-store.interface.js';

/** A window in a document that holds several: as it was claimed. */
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
}

/**
 * A claimed window, or several small ones that were claimed together and are as they were claimed: one document for each would cost more
 * than their messages do. A window that is to be changed or kept gets a document of its own; while both are there, that one counts.
 *
 * `data` and `query` are Python's; `data` is filled when the window is kept and fits.
 */
export interface WindowDocument extends Partial<ClaimedWindow> {
  /** Consumer, fence of the claim and `seq`s: a repeated claim meets itself, a late one of a former holder meets nobody. */
  _id: string;
  stream: string;
  created: Date;
  data: unknown[];
  processed: boolean;
  query: unknown[];
  /** `_id` of the consumer's document. */
  consumer: string;
  /** Of the lease that claimed or adopted it last. */
  fence: number;
  /** In place of `seq`, `windowId` and so on; they leave one by one, or all together with the document. */
  windows?: ClaimedWindow[];
  /** 1 if absent. */
  attempt?: number;
  /** 0 if absent. */
  recoveries?: number;
  nextTry?: Date | null;
  error?: string | null;
  /** Since when it is set aside. */
  aside?: Date | null;
  /** Sinks that have failed to take its result. */
  blockedSinks?: readonly string[] | null;
  /** What counted against the rate limit when its handler began. */
  starts?: readonly RateStart[] | null;
  /** While it is taken apart: see split-codec.ts. */
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
