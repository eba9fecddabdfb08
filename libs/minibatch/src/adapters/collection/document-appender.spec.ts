import type { Document } from 'bson';
import { describe, expect, it } from 'vitest';
import { AppendError, ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { MessageProblems } from '../message-problems.js';
import type { UnstorablePolicy } from '../policies.js';
import { newCounters } from '../source-counters.js';
import { DocumentAppender, nameOfDocument } from './document-appender.js';
import { MemoryTarget } from './collection-source.spec.support.js';
import type { ResolvedReading } from './collection-source.options.js';
import type { CollectionPosition } from './position.js';

const POSITION: CollectionPosition = { mode: 'cursor', field: '_id', from: 3 };
const DOCUMENTS = [{ _id: 1 }, { _id: 2, odd: true }, { _id: 3 }];

const odd = (data: unknown) => (data as { readonly odd?: boolean }).odd === true;
const refusal = (code: ErrorCode) => new MinibatchError(code, "stream 'test': it can't be stored");

/** How a stream refuses a message: before anything of its write is stored, or when the others are. */
const REFUSALS: readonly [string, (target: MemoryTarget) => void][] = [
  [
    'before anything is stored',
    (target) => {
      target.before = (data) => {
        if (data.some(odd)) throw refusal(ErrorCode.NotStorable);
      };
    },
  ],
  [
    'when the others are stored',
    (target) => {
      const append = target.appendMany.bind(target);
      target.appendMany = async (data, options) => {
        const each = options?.each;
        const index = data.findIndex(odd);
        const good = data.filter((item) => !odd(item));
        await append(good, { ...(each && { each: (item) => each(item, data.indexOf(item)) }) });
        if (index < 0) return;
        const failed = [{ index, stored: 'no', error: refusal(ErrorCode.MessageTooLarge) }];
        target.appendMany = append;
        throw new AppendError(ErrorCode.AppendFailed, 'one of several', 'no', { details: { failed } });
      };
    },
  ],
];

describe('DocumentAppender', () => {
  function appender(options: Partial<ResolvedReading> = {}) {
    const target = new MemoryTarget();
    const lines: string[] = [];
    const counts = newCounters();
    const say = (line: string) => void lines.push(line);
    const stop = new AbortController();
    const reading = {
      where: 'Feed',
      map: (document: Document): unknown => document,
      key: undefined,
      unstorable: 'skip' as UnstorablePolicy<Document>,
      ...options,
    };
    const { where, unstorable } = reading;
    const nameOf = nameOfDocument('shop.orders');
    const log = { log: say, warn: say, error: say };
    const problems = new MessageProblems({ where, unstorable, nameOf, counters: counts, log });
    const made = new DocumentAppender('shop.orders', target, reading, problems, counts, stop.signal);
    const append = (documents: readonly Document[] = DOCUMENTS) =>
      made.append(
        documents.map((document) => ({ document, dedupeId: String(document['_id']) })),
        POSITION,
      );
    return { target, lines, counts, stop, append };
  }

  describe.each(REFUSALS)('a document that is refused %s', (_, refuse) => {
    it('is skipped, counted and logged; the others are stored in order, then the position', async () => {
      const { target, lines, counts, append } = appender();
      refuse(target);
      await append();
      expect(target.all('_id')).toEqual([1, 3]);
      expect(target.stored).toMatchObject({ collection: 'shop.orders', from: expect.stringContaining('3') });
      expect(counts).toMatchObject({ skipped: 1, unstorable: 1 });
      expect(lines).toEqual([
        expect.stringMatching(
          /^Feed: the document 2 of shop\.orders cannot be stored and was skipped \(1 so far\): stream/,
        ),
      ]);
    });

    it("fails the source with unstorable: 'fail', and the position stays", async () => {
      const { target, counts, append } = appender({ unstorable: 'fail' });
      refuse(target);
      await expect(append()).rejects.toMatchObject({
        message: expect.stringMatching(/^Feed: the document 2 of shop\.orders: /),
        details: { reason: 'UNSTORABLE', id: '2' },
      });
      expect(target.all('_id')).toEqual([1, 3]);
      expect(target.stored).toBeUndefined();
      expect(counts).toMatchObject({ received: 3, appended: 2, skipped: 0, unstorable: 1 });
    });

    it('is given to a function before the position moves on', async () => {
      const given: unknown[] = [];
      const { target, counts, append } = appender({
        unstorable: async (document, { name }) => {
          await Promise.resolve();
          given.push([document, name, target.stored]);
        },
      });
      refuse(target);
      await append();
      expect(given).toEqual([[DOCUMENTS[1], 'MinibatchError', undefined]]);
      expect(target.stored).toBeDefined();
      expect(counts).toMatchObject({ skipped: 0, unstorable: 1 });
    });

    it('fails the source if the function rejects, and the position stays', async () => {
      const { target, append } = appender({ unstorable: () => Promise.reject(new Error('no disk')) });
      refuse(target);
      await expect(append()).rejects.toMatchObject({
        code: ErrorCode.SourceFailed,
        message: expect.stringContaining('unstorable failed for the document 2 of shop.orders'),
        details: { option: 'unstorable', id: '2' },
      });
      expect(target.stored).toBeUndefined();
    });
  });

  it.each<[string, Partial<ResolvedReading>]>([
    [
      'map',
      {
        map: (document) => {
          if (odd(document)) throw new Error('no customer');
          return document;
        },
      },
    ],
    ['map', { map: (document) => (odd(document) ? Promise.reject(new Error('nobody hears it')) : document) }],
    [
      'key',
      {
        key: (document) => {
          // oxlint-disable-next-line only-throw-error
          if (odd(document)) throw null;
          return undefined;
        },
      },
    ],
  ])('a document that %s fails for is left out alone', async (option, options) => {
    const { target, lines, counts, append } = appender(options);
    await append();
    expect(target.all('_id')).toEqual([1, 3]);
    expect(target.stored).toBeDefined();
    expect(counts).toMatchObject({ skipped: 1, unstorable: 1 });
    expect(lines).toEqual([
      expect.stringMatching(`^Feed: the document 2 of shop.orders cannot be stored .*: ${option} `),
    ]);
  });

  it('moves on also if all documents of a batch are refused', async () => {
    const { target, counts, append } = appender({
      map: () => {
        throw new Error('no customer');
      },
    });
    await append();
    expect(target.messages).toEqual([]);
    expect(target.stored).toBeDefined();
    expect(counts.skipped).toBe(3);
  });

  it('logs ten of a thousand', async () => {
    const { lines, counts, append } = appender({
      map: () => {
        throw new Error('no customer');
      },
    });
    await append(Array.from({ length: 1000 }, (_, _id) => ({ _id })));
    expect(counts.skipped).toBe(1000);
    expect(lines).toHaveLength(11);
  });

  it('fails, and gives nothing up, for an error that is not about a document', async () => {
    const { target, counts, append } = appender();
    target.before = () => {
      throw new MinibatchError(ErrorCode.StoreUnavailable, 'store is down');
    };
    await expect(append()).rejects.toMatchObject({ code: ErrorCode.StoreUnavailable });
    expect(counts).toMatchObject({ skipped: 0, unstorable: 0 });
  });

  it('stops at once, and leaves the position, while a function takes its time', async () => {
    const { target, stop, append } = appender({
      map: () => {
        throw new Error('no customer');
      },
      unstorable: () => {
        stop.abort();
        return new Promise(() => undefined);
      },
    });
    await append();
    expect(target.stored).toBeUndefined();
  });

  it.each([{ _bsontype: 'x' }, { _bsontype: 'ObjectId' }, new Date(Number.NaN)])(
    'names a document by an id that has no extended JSON: %o',
    async (_id) => {
      const { lines, append } = appender({
        map: () => {
          throw new Error('no customer');
        },
      });
      await append([{ _id }]);
      expect(lines).toHaveLength(1);
    },
  );
});
