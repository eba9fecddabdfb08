import { readFile } from 'node:fs/promises';
import * as bson from 'bson';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { repository } from '../../../../test/support/workspace.js';
import { AppendError, ErrorCode, isUnstorable } from '../errors/minibatch.error.js';
import { SystemClock } from '../common/clock.js';
import { type OpenedStore, STORES } from '../storage/stores.spec.support.js';
import { StreamHub } from './stream-hub.js';

/** The rows of the tables of the page, by their heading: what stands between backquotes, cell by cell. */
const page = await readFile(repository('docs/reference/values.md'), 'utf8');
function rowsOf(heading: string): { name: string; given: string; outcome: string | undefined }[] {
  const section = page.split(`## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  const rows = section.split('\n').filter((line) => line.startsWith('|'));
  return rows.slice(2).flatMap((row) => {
    const [, name = '', given = '', outcome = ''] = row.split('|').map((cell) => cell.trim());
    return given === '' ? [] : [{ name, given: codeOf(given)!, outcome: codeOf(outcome) }];
  });
}
const codeOf = (cell: string) => /^`(.*)`$/.exec(cell)?.[1];

function evaluate(code: string): unknown {
  const names = Object.keys(bson).filter((name) => /^[A-Z]/.test(name));
  // eslint-disable-next-line typescript/no-implied-eval -- what is evaluated is our own page
  const make = new Function(...names, `return (${code});`) as (...values: unknown[]) => unknown;
  return make(...names.map((name) => Reflect.get(bson, name)));
}

const kept = rowsOf('What comes back');
const refused = rowsOf('What is refused');

describe.each(STORES)('values in %s', (_, open) => {
  let opened: OpenedStore;
  let hub: StreamHub;
  let streams = 0;
  beforeAll(async () => {
    opened = await open();
    const log = { log() {}, warn() {}, error() {} };
    hub = new StreamHub({ store: opened.store, clock: new SystemClock(), log, retry: { base: 1, max: 1, jitter: 0 } });
  });
  afterAll(async () => {
    await hub.close(1000);
    await opened.dispose();
  });

  async function roundTrip(values: readonly unknown[]): Promise<readonly unknown[]> {
    const name = `values-${(streams += 1)}`;
    await hub.stream(name).appendMany(values);
    const key = { stream: name, group: 'default', partition: 0 };
    const limits = { messages: values.length + 1, bytes: 2 ** 30 };
    return (await opened.store.fetch(key, undefined, limits)).messages.map(({ data }) => data);
  }

  it('has rows to check', () => {
    expect(kept.length).toBeGreaterThan(20);
    expect(refused.length).toBeGreaterThan(15);
  });

  it.each(kept)('gives back what the page says: $name', async ({ given, outcome }) => {
    const appended = evaluate(given);
    const expected = outcome === undefined ? evaluate(given) : evaluate(outcome);
    expect(comparable(await roundTrip([appended]))).toStrictEqual(comparable([expected]));
  });

  it.each(refused)('refuses what the page says: $name', async ({ given, outcome }) => {
    const good = hub.stream('refused').append('good');
    const error: unknown = await hub
      .stream('refused')
      .append(evaluate(given))
      .then(
        () => undefined,
        (reason: unknown) => reason,
      );
    expect(error).toMatchObject({ code: ErrorCode.NotStorable, stored: 'no' });
    expect((error as AppendError).message).toContain(outcome);
    await expect(good).resolves.toHaveProperty('id');
  });

  it('refuses what is too large, and nothing else', async () => {
    const stream = hub.stream('large');
    const bytes = 17 * 1024 * 1024;
    const large = [Buffer.alloc(bytes), new bson.Binary(Buffer.alloc(bytes), 128), 'x'.repeat(bytes)];
    const [first, last, ...errors] = await Promise.all([
      stream.append(1),
      stream.append(2),
      ...[...large, new bson.Code('x'.repeat(bytes))].map((data) =>
        stream.append({ data }).then(
          () => undefined,
          (reason: unknown) => reason,
        ),
      ),
    ]);
    expect([first, last]).toEqual([{ id: expect.any(String) }, { id: expect.any(String) }]);
    for (const error of errors) {
      expect(error).toMatchObject({ code: ErrorCode.MessageTooLarge, stored: 'no' });
    }
    expect(errors).toHaveLength(4);
    // With its key it is, without it is not.
    const most = opened.store.maxMessageBytes;
    errors.push(
      await stream.append('x'.repeat(most - 1_000), { key: 'k'.repeat(2_000) }).catch((error: unknown) => error),
    );
    for (const error of errors)
      expect((error as Error).message).toMatch(
        /the message has (\d+ bytes, at most \d+|more than the \d+ bytes that) can be stored: split it, or store a reference to the content/,
      );
  });

  it('gives back large binary data', async () => {
    const bytes = [100_000, 1_000_000, 15_000_000].map((length) => Buffer.alloc(length, 7));
    const back = await roundTrip(bytes.flatMap((data) => [{ data }, { data: new bson.Binary(data) }]));
    const sizes = back.map((value) => (value as { data: Buffer }).data.length);
    expect(sizes).toEqual([100_000, 100_000, 1_000_000, 1_000_000, 15_000_000, 15_000_000]);
  });

  it('gives back anything as it was, or refuses it', async () => {
    const anything = fc.anything({
      withBigInt: true,
      withDate: true,
      withMap: true,
      withSet: true,
      withTypedArray: true,
      withSparseArray: true,
      withNullPrototype: true,
      withBoxedValues: true,
      withObjectString: true,
      withUnicodeString: true,
      key: fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.constantFrom('$ref', '$id', '$db', '__proto__', 'a.b', '$set', '0'),
      ),
    } as fc.ObjectConstraints);
    await fc.assert(
      fc.asyncProperty(fc.array(anything, { minLength: 1, maxLength: 10 }), async (values) => {
        const good: unknown[] = [];
        for (const value of values) {
          try {
            good.push((await roundTripOrThrow(value)) ?? value);
          } catch (error) {
            if (!isUnstorable(error)) throw error;
          }
        }
        if (good.length > 0) expect(comparable(await roundTrip(good))).toStrictEqual(comparable(good));
      }),
      { numRuns: Number(process.env['FC_RUNS'] ?? 30) },
    );
    async function roundTripOrThrow(value: unknown): Promise<unknown> {
      const [back] = await roundTrip([value]);
      expect(comparable(back)).toStrictEqual(comparable(expectedOf(value)));
      return back;
    }
  });
});

/** What the page says of plain values that JSON does not keep. */
function expectedOf(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (Array.isArray(value)) return Array.from(value, (element) => (element === undefined ? null : expectedOf(element)));
  if (typeof value !== 'object' || value === null || value instanceof Date) return value;
  const entries = Object.entries(value).filter(([, property]) => property !== undefined);
  return Object.fromEntries(entries.map(([key, property]) => [key, expectedOf(property)]));
}

/** BSON values by what they hold: each store has a class of its own copy of the package. */
function comparable(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(comparable);
  if ('_bsontype' in value && !Object.hasOwn(value, '_bsontype'))
    return bson.EJSON.stringify(value, { relaxed: false });
  // Not compared otherwise.
  if (value instanceof RegExp) return { source: value.source, flags: value.flags, lastIndex: value.lastIndex };
  if (value instanceof Date || value instanceof Uint8Array) return value;
  return Object.fromEntries(Object.entries(value).map(([key, property]) => [key, comparable(property)]));
}
