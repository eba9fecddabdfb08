import { Binary, Decimal128, ObjectId, Timestamp, UUID } from 'bson';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ProtocolMismatch, RemoteHandlerError } from '../../errors/executor-errors.js';
import { taskFor, type TaskOptions } from '../../testing/executor-contract/tasks.js';
import type { ServedConsumer, WindowTask } from '../executor.interface.js';
import { InlineExecutor } from '../inline.executor.js';
import { type EndedJob, jobDataOf, jobIdOf, outcomeOfJob, readJob, returnValueOf } from './job-codec.js';
import { fromJson, NoJson, toJson } from './json-values.js';
import { queueNameOf } from './queue-name.js';

const executor = new InlineExecutor();
const task = (options: TaskOptions = {}) => taskFor(executor, 'echo', options);
const consumer: ServedConsumer = { label: 'Jobs.echo', stream: 's', group: 'g', workers: 1, handler: () => undefined };
const nothing = () => Promise.reject(new Error('loads nothing'));
/** Through Redis. */
const sent = (data: unknown): unknown => JSON.parse(JSON.stringify(data));
const crossed = (from: WindowTask) => readJob(sent(jobDataOf(from)), consumer, nothing);

const PLAIN: [string, unknown, unknown][] = [
  ['text', 'ä€😀', 'ä€😀'],
  ['a broken surrogate', '\ud800', '\ud800'],
  ['a number', 1.5, 1.5],
  ['negative zero', -0, { $numberDouble: '-0.0' }],
  ['infinity', -Infinity, { $numberDouble: '-Infinity' }],
  ['no number', Number.NaN, { $numberDouble: 'NaN' }],
  ['a small bigint', 5n, { $numberLong: '5' }],
  ['a large bigint', -(2n ** 63n), { $numberLong: '-9223372036854775808' }],
  ['a date', new Date(1_234_567), { $date: '1970-01-01T00:20:34.567Z' }],
  ['a date before 1970', new Date(-1), { $date: { $numberLong: '-1' } }],
  ['a date after 9999', new Date(8.64e15), { $date: { $numberLong: '8640000000000000' } }],
  ['bytes', Buffer.from([0, 255]), { $binary: { base64: 'AP8=', subType: '00' } }],
  ['an object id', new ObjectId('65f0c0ffee65f0c0ffee0001'), { $oid: '65f0c0ffee65f0c0ffee0001' }],
  ['a decimal', Decimal128.fromString('1.10'), { $numberDecimal: '1.10' }],
  ['null', null, null],
  ['a key __proto__', JSON.parse('{"__proto__":{"a":1}}'), JSON.parse('{"__proto__":{"a":1}}')],
  ['a date under __proto__', { ['__proto__']: new Date(0) }, { ['__proto__']: { $date: '1970-01-01T00:00:00.000Z' } }],
];

describe('a value as JSON', () => {
  it.each(PLAIN)('%s', (_, value, json) => {
    expect(toJson(value)).toEqual(json);
    expect(fromJson(sent(toJson(value)))).toStrictEqual(value);
    const nested = { list: [1, value, { deep: value }], other: true };
    expect(fromJson(sent(toJson(nested)))).toStrictEqual(nested);
  });

  it('is the value itself where it needs no notation', () => {
    const value = { a: [1, { b: 'text' }] };
    expect(toJson(value)).toBe(value);
  });

  it('writes dates as they are, whatever second the one before was of', () => {
    const times = [1_999, 2_000, 2_007, 2_070, 1_999, 253_402_300_799_999, 0];
    const dates = times.map((time) => new Date(time));
    expect(toJson(dates)).toEqual(dates.map((date) => ({ $date: date.toISOString() })));
  });

  it('leaves what it was made of as it was', () => {
    const value = { at: new Date(0), list: [1n] };
    toJson(value);
    expect(value).toEqual({ at: new Date(0), list: [1n] });
  });

  it.each([
    ['an object that looks like a notation', { $date: 'x' }],
    ['a key that begins with a dollar', { a: { $set: 1 } }],
    ['a regular expression', /a/],
    ['another subtype of bytes', new Binary(Buffer.from([1]), 5)],
    ['a UUID', new UUID()],
    ['a timestamp', new Timestamp({ t: 1, i: 2 })],
    ['a function', () => 1],
    ['an invalid date', new Date(Number.NaN)],
  ])('does not exist for %s', (_, value) => {
    expect(() => toJson(value)).toThrow(NoJson);
  });

  it('of other languages may be longer', () => {
    expect(fromJson({ n: { $numberInt: '7' }, at: { $date: '2020-01-01T00:00:00Z' } })).toEqual({
      n: 7,
      at: new Date('2020-01-01T00:00:00Z'),
    });
  });

  it.each([
    [{ $date: 'never' }],
    [{ $oid: 'x' }],
    [{ $numberLong: 'x' }],
    [{ $binary: 1 }],
    [{ $unknown: 1 }],
    [{ $date: '2020', a: 1 }],
  ])('is left as it is if it is no notation: %j', (json) => {
    expect(fromJson(sent(json))).toEqual(json);
  });
});

describe('a window as a job', () => {
  it('can be read by people', () => {
    const messages = [{ data: { n: 1, at: new Date(0) }, key: 'k', headers: { h: 'v' } }, { data: 'two' }];
    const record = { id: 'w', attempt: 2, start: new Date(1_000), end: new Date(2_000), part: 1, late: true };
    expect(sent(jobDataOf(task({ record, messages })))).toEqual({
      v: 1,
      window: {
        label: 'ContractHandlers.echo',
        stream: 'executor-contract',
        group: 'echo',
        id: 'w',
        attempt: 2,
        recoveries: 0,
        late: true,
        start: { $date: '1970-01-01T00:00:01.000Z' },
        end: { $date: '1970-01-01T00:00:02.000Z' },
        part: 1,
        wantsResult: true,
      },
      messages: [
        {
          id: 'm0',
          created: { $date: '2023-11-14T22:13:20.000Z' },
          data: { n: 1, at: { $date: '1970-01-01T00:00:00.000Z' } },
          key: 'k',
          headers: { h: 'v' },
        },
        { id: 'm1', created: { $date: '2023-11-14T22:13:20.001Z' }, data: 'two' },
      ],
    });
  });

  it.each([
    ['as JSON', { n: 1n, at: new Date(5) }],
    ['as bytes, where a value has no JSON', { pattern: /a+/i, $set: new Date(5) }],
  ])('is read again %s', async (_, data) => {
    const { header, messages } = await crossed(task({ messages: [{ data, key: 'k', headers: { h: 'v' } }] }));
    expect(header).toMatchObject({ id: 'window of echo', attempt: 1, recoveries: 0, late: false, wantsResult: true });
    expect(messages).toEqual([{ id: 'm0', created: new Date(1_700_000_000_000), data, key: 'k', headers: { h: 'v' } }]);
  });

  it('goes by reference if it is large, and is refused by a worker with another store', async () => {
    const large = task({ messages: [{ data: 'x'.repeat(1_100_000) }, { data: 2 }] });
    const data = sent(jobDataOf(large));
    expect(data).toMatchObject({ ids: ['m0', 'm1'], partition: 0 });
    expect(data).not.toHaveProperty('messages');
    const { messages } = await readJob(data, consumer, async (partition, ids) => {
      expect({ partition, ids }).toEqual({ partition: 0, ids: ['m0', 'm1'] });
      return large.window.stored;
    });
    expect(messages.map(({ data: each }) => each)).toEqual(['x'.repeat(1_100_000), 2]);
    await expect(readJob(data, consumer, async () => [])).rejects.toThrow('found 0 of the 2 messages');
  });

  it.each([
    [undefined, 'version none'],
    [{ v: 2 }, 'version 2'],
    [{ v: 1 }, 'holds no window'],
    ['text', 'version none'],
  ])('is refused if it is none: %j', async (data, message) => {
    const read = readJob(data, consumer, nothing);
    await expect(read).rejects.toThrow(ProtocolMismatch);
    await expect(read).rejects.toThrow(message);
  });

  it('has the same id for the same run, and for no other', () => {
    const id = jobIdOf(task());
    expect(jobIdOf(task({ messages: [{ data: 'other' }] }))).toBe(id);
    const others = [{ id: 'other' }, { attempt: 2 }, { part: 1 }].map((record) => jobIdOf(task({ record })));
    expect(new Set([id, ...others, jobIdOf({ window: task().window, recoveries: 1 })]).size).toBe(5);
    expect(id).toMatch(/^[0-9a-f]{32}$/);
  });
});

describe('what became of a job', () => {
  const ended = (job: Partial<EndedJob>): EndedJob => ({
    returnvalue: null,
    failedReason: null,
    progress: null,
    stacktrace: null,
    ...job,
  });

  it.each([[{ total: 5n, at: new Date(0) }], [/a+/i], ['text'], [undefined]])('is its result: %s', (result) => {
    const rejected = [{ id: 'm0', error: 'odd' }];
    const returnvalue = JSON.stringify(returnValueOf({ kind: 'handled', result, rejected }));
    expect(outcomeOfJob(ended({ returnvalue }))).toEqual({ result, rejected });
  });

  it.each([
    ['null', { result: undefined, rejected: [] }],
    ['{"result":1}', { result: 1, rejected: [] }],
    ['{"rejected":[{"id":"m0","error":"odd"}]}', { result: undefined, rejected: [{ id: 'm0', error: 'odd' }] }],
    // The engine says what is wrong with these.
    ['5', 5],
    ['{"total":5}', { total: 5 }],
  ])('may come from another language: %s', (returnvalue, outcome) => {
    expect(outcomeOfJob(ended({ returnvalue }))).toEqual(outcome);
  });

  it('is what the method threw, also in another language', () => {
    const progress = JSON.stringify({
      kind: 'threw',
      message: 'no',
      name: 'RangeError',
      code: 'E',
      stack: 'RangeError: no\n at x',
    });
    const ours = () => outcomeOfJob(ended({ failedReason: 'no', progress }));
    expect(ours).toThrow(RemoteHandlerError);
    expect(ours).toThrow(
      expect.objectContaining({ name: 'RangeError', code: 'E', message: 'no', stack: 'RangeError: no\n at x' }),
    );
    const stacktrace = JSON.stringify(['Traceback (most recent call last):\n  File "worker.py"\nValueError: no\n']);
    const python = () => outcomeOfJob(ended({ failedReason: 'no', stacktrace, progress: '0' }));
    expect(python).toThrow(RemoteHandlerError);
    expect(python).toThrow(expect.objectContaining({ name: 'ValueError', message: 'no' }));
  });

  it('is unknown if it can not be read', () => {
    expect(() => outcomeOfJob(ended({ returnvalue: '{' }))).toThrow(ProtocolMismatch);
  });
});

describe('the name of a queue', () => {
  it.each([
    ['orders', 'default', 'minibatch.orders.default'],
    ['orders.created', 'a-b', 'minibatch.orders.created.a-b'],
    ['a:b', 'c.d', 'minibatch.a%3Ab.c%2Ed'],
    ['{tag}/ü😀 %', 'x:', 'minibatch.%7Btag%7D%2F%C3%BC%F0%9F%98%80%20%25.x%3A'],
  ])('of %s and %s', (stream, group, name) => {
    expect(queueNameOf({ stream, group })).toBe(name);
  });

  it('is never that of another consumer, and one that BullMQ takes', () => {
    const name = fc.string({
      unit: fc.constantFrom('a', '.', ':', '%', '2', 'E', 'ü', '{'),
      minLength: 1,
      maxLength: 6,
    });
    fc.assert(
      fc.property(name, name, name, name, (stream, group, otherStream, otherGroup) => {
        const [one, other] = [queueNameOf({ stream, group }), queueNameOf({ stream: otherStream, group: otherGroup })];
        expect(one === other).toBe(stream === otherStream && group === otherGroup);
        expect(one).not.toMatch(/[:{}]/);
      }),
    );
  });
});
