import { mongo } from 'mongoose';
import { describe, expect, it, vi } from 'vitest';
import { changedOnTheWay, useStore } from '../../../../../test/support/mongoose-store.js';
import { SystemClock } from '../../common/clock.js';
import { AppendError, ErrorCode } from '../../errors/minibatch.error.js';
import { Collections, collectionNames } from './collections.js';
import type { Draft } from './draft.js';
import { BufferInserts } from './buffer-inserts.js';
import type { BufferDocument } from './schemas/buffer.schema.js';

/** What happens to a sending: it fails before the server sees it, or after, or the server says more than "done". */
type Fault =
  | { readonly before: Error }
  | { readonly after: Error }
  | { readonly concern: { readonly code: number; readonly errmsg: string } }
  /** Of the two unique indexes that refuse a repeated insert, the server names the one of the dedupe key. */
  | { readonly namesDedupeKey: true };

const reset = () => new mongo.MongoNetworkError('reset');
const steppedDown = () => new mongo.MongoServerError({ code: 10107, errmsg: 'not primary' });
const cleared = () => {
  const error = new mongo.MongoNetworkError('pool cleared');
  error.addErrorLabel('HandshakeError');
  return error;
};

describe('an insert', () => {
  const test = useStore();

  const drafts = (count: number): Draft[] =>
    Array.from({ length: count }, (_, n) => {
      const _id = new mongo.ObjectId();
      const document = { _id, stream: 'flights', created: new Date(), data: n, processed: false };
      return { document, id: _id.toHexString(), bytes: 100 };
    });

  /** One insert, on a server that has these faults one after the other. */
  async function insert(faults: readonly Fault[], { repeats = true, given = drafts(2), patience = 0 } = {}) {
    const { buffer } = new Collections(test.connection, collectionNames());
    const left = [...faults];
    const changed = changedOnTheWay(buffer, (send) => async (sent, options) => {
      const fault = 'insert' in sent ? left.shift() : undefined;
      if (fault && 'before' in fault) throw fault.before;
      const reply = await send(sent, options);
      if (!fault) return reply;
      if ('after' in fault) throw fault.after;
      if ('namesDedupeKey' in fault) {
        const errors = reply['writeErrors'] as { errmsg: string }[];
        for (const error of errors) error.errmsg = error.errmsg.replace('index: _id_', 'index: dedupeKey_1');
        return reply;
      }
      throw new mongo.MongoWriteConcernError({ ...reply, ok: 1, writeConcernError: fault.concern });
    });
    const inserts = new BufferInserts(
      { buffer: changed } as unknown as Collections,
      () => repeats,
      () => false,
      new SystemClock(),
      () => patience,
    );
    test.commands();
    const goOn = await inserts.insert(given);
    const outcomes = given.map(({ outcome }) => {
      if (outcome?.status !== 'failed') return outcome?.status;
      return outcome.error instanceof AppendError ? outcome.error.stored : outcome.error;
    });
    return { goOn, outcomes, sent: test.commands().filter((name) => name === 'insert').length, left: left.length };
  }
  const stored = () => test.connection.collection<BufferDocument>('buffer').countDocuments();

  it('is sent once more when the connection breaks or the primary steps down', async () => {
    for (const fault of [{ before: reset() }, { after: reset() }, { before: steppedDown() }, { before: cleared() }]) {
      expect(await insert([fault])).toMatchObject({ goOn: true, outcomes: ['stored', 'stored'], left: 0 });
    }
    expect(await stored()).toBe(8);
  });

  it('is not, where no other server takes over, if it surely was not executed', async () => {
    for (const fault of [{ before: steppedDown() }, { before: cleared() }]) {
      expect(await insert([fault], { repeats: false })).toEqual({
        goOn: false,
        outcomes: ['no', 'no'],
        sent: 0,
        left: 0,
      });
    }
    expect(await insert([{ after: reset() }], { repeats: false })).toMatchObject({ outcomes: ['stored', 'stored'] });
  });

  it('says what it knows when it fails twice', async () => {
    expect(await insert([{ before: reset() }, { before: reset() }])).toMatchObject({
      outcomes: ['unknown', 'unknown'],
    });
    expect(await insert([{ before: steppedDown() }, { before: cleared() }])).toMatchObject({
      goOn: false,
      outcomes: ['no', 'no'],
    });
    expect(await insert([{ before: cleared() }, { after: reset() }])).toMatchObject({
      goOn: false,
      outcomes: ['unknown', 'unknown'],
    });
  });

  it('is sent again, while the driver may look for a server, if it may be stored and connections are refused', async () => {
    const faults = [{ after: reset() }, { before: cleared() }, { before: cleared() }, { before: cleared() }];
    expect(await insert(faults, { repeats: false, patience: 60_000 })).toMatchObject({
      goOn: true,
      outcomes: ['stored', 'stored'],
      left: 0,
    });
    expect(await stored()).toBe(2);
  });

  it('takes a server that refuses the command for one that is there', async () => {
    const unauthorized = new mongo.MongoServerError({ ok: 0, code: 13, errmsg: 'not authorized' });
    const given = drafts(1);
    expect(await insert([{ before: unauthorized }], { given, patience: 60_000 })).toMatchObject({ outcomes: ['no'] });
    expect(given[0]?.outcome).not.toHaveProperty('storeAway');
  });

  it('is in doubt without a majority, and asks the next server if this one hands over', async () => {
    const given = drafts(2);
    const timeout = { code: 64, errmsg: 'waiting for replication timed out' };
    expect(await insert([{ concern: timeout }], { given })).toMatchObject({
      goOn: true,
      outcomes: ['unknown', 'unknown'],
    });
    const [outcome] = given.map((draft) => draft.outcome);
    expect(outcome).toMatchObject({
      status: 'failed',
      error: {
        code: ErrorCode.AppendFailed,
        message: expect.stringContaining('has not acknowledged the messages: waiting for replication'),
      },
    });
    const shutdown = { concern: { code: 91, errmsg: 'shutting down' } };
    expect(await insert([shutdown])).toEqual({ goOn: true, outcomes: ['stored', 'stored'], sent: 2, left: 0 });
    expect(await insert([shutdown, shutdown])).toMatchObject({ goOn: true, outcomes: ['unknown', 'unknown'], left: 0 });
  });

  it('is not taken for a duplicate of its own first sending, whichever index the server names', async () => {
    for (const second of [[], [{ namesDedupeKey: true }]] as const) {
      const given = drafts(2).map((draft, n) => ({
        ...draft,
        document: { ...draft.document, dedupeKey: `flights\0${second.length}-${n}` },
      }));
      expect(await insert([{ after: reset() }, ...second], { given })).toMatchObject({
        outcomes: ['stored', 'stored'],
        sent: 2,
        left: 0,
      });
    }
    expect(await stored()).toBe(4);
  });

  it('takes a server that denies the search for what is in doubt for one that is there', async () => {
    const given = drafts(1).map((draft) => ({ ...draft, document: { ...draft.document, dedupeKey: 'flights\0a' } }));
    const unauthorized = new mongo.MongoServerError({ ok: 0, code: 13, errmsg: 'not authorized to execute find' });
    const denied = { toArray: () => Promise.reject(unauthorized) } as unknown as mongo.FindCursor;
    const find = vi.spyOn(mongo.Collection.prototype, 'find').mockReturnValueOnce(denied);
    const inserted = await insert([{ after: reset() }, { namesDedupeKey: true }], { given });
    find.mockRestore();
    expect(inserted).toMatchObject({ goOn: true, outcomes: ['unknown'], left: 0 });
    expect(given[0]).toMatchObject({
      outcome: {
        error: { code: ErrorCode.StoreDenied, message: expect.stringContaining('grant it the role') as unknown },
      },
    });
    expect(given[0]).not.toHaveProperty('outcome.storeAway');
  });

  it('recognises a duplicate among what is in doubt', async () => {
    const dedupe = (draft: Draft): Draft => ({ ...draft, document: { ...draft.document, dedupeKey: 'flights\0a' } });
    await insert([], { given: drafts(1).map(dedupe) });
    const given = [...drafts(1), ...drafts(1).map(dedupe)];
    const timeout = { code: 64, errmsg: 'timed out' };
    expect(await insert([{ concern: timeout }], { given })).toMatchObject({ outcomes: ['unknown', 'duplicate'] });
  });
});
