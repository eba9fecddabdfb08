import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ExecutorUnavailable,
  ProtocolMismatch,
  RemoteHandlerError,
  ResultUnsendable,
} from '../errors/executor-errors.js';
import { MinibatchError } from '../errors/minibatch.error.js';
import { encodeMessage, decodeMessage } from '../storage/encoded-message.js';
import type { StoredMessage } from '../storage/stream-store.interface.js';
import { Window } from '../windows/window.js';
import type { WindowTask } from './executor.interface.js';
import { answerOf, encodeAnswer, failureOf, readOutcome, thrownAnswer } from './outcome-codec.js';
import { decodeTask, encodeTask } from './task-codec.js';
import { runTask } from './task-runner.js';

const FIELDS = { id: 'w', stream: 's', group: 'g', attempt: 1, late: false };
const consumer = { label: 'Test.take', stream: 's', group: 'g', workers: 1 };

function bytesOf(messages: readonly StoredMessage[], fields: object = {}): Uint8Array {
  const window = Object.assign(Object.create(Window.prototype) as Window, FIELDS, fields);
  return encodeTask({ consumer, window, recoveries: 2, wantsResult: true } as WindowTask, messages);
}

const stored = (data: unknown, id = 'm') =>
  decodeMessage(id, encodeMessage({ stream: 's', data, created: new Date(5), key: 'k', headers: { h: 'v' } }));

const thrown = (error: unknown) => encodeAnswer(thrownAnswer(error));
const failed = (error: unknown) => encodeAnswer(failureOf(error));
const handled = (...outcome: Parameters<typeof answerOf>) => encodeAnswer(answerOf(...outcome));

describe('a task as bytes', () => {
  it('holds what there is to know of the window, and its messages', () => {
    const ofRows = { key: 'ann', partial: true, revision: 2 };
    const more = { start: new Date(1), end: new Date(2), part: 1, ...ofRows, split: { of: 'v', from: 2, to: 4 } };
    expect(decodeTask(bytesOf([stored({ n: 1n }, 'ä1'), stored('two', 'm2')], more))).toEqual({
      header: { label: 'Test.take', ...FIELDS, ...more, recoveries: 2, messages: 2, wantsResult: true },
      messages: [
        { id: 'ä1', created: new Date(5), data: { n: 1n }, key: 'k', headers: { h: 'v' } },
        { id: 'm2', created: new Date(5), data: 'two', key: 'k', headers: { h: 'v' } },
      ],
    });
  });

  it('encodes what a store gives no bytes of', () => {
    const { id, created, bytes, data } = stored({ n: 1n, none: undefined });
    const plain = { id, created, bytes, data, read: () => ({ id, created, data }) };
    expect(decodeTask(bytesOf([plain])).messages).toEqual([{ id, created, data: { n: 1n, none: null } }]);
  });

  it('keeps an int64 of another language a number where that is exact', () => {
    const message = stored({ n: 5n });
    const foreign = {
      ...message,
      read: () => message.read(),
      content: () => ({ ...message.content!(), int64: 'auto' as const }),
    };
    expect(decodeTask(bytesOf([foreign])).messages[0]?.data).toEqual({ n: 5 });
  });

  it('can be transferred: it has a buffer of its own', () => {
    const bytes = bytesOf([stored(1)]);
    expect(bytes.buffer.byteLength).toBe(bytes.byteLength);
    expect(thrown(new Error('x')).buffer.byteLength).toBe(thrown(new Error('x')).byteLength);
  });

  it('is refused in another version, and by name', () => {
    const bytes = bytesOf([stored(1)]);
    bytes[0] = 2;
    expect(() => decodeTask(bytes)).toThrow(ProtocolMismatch);
    expect(() => decodeTask(bytes)).toThrow(/speaks version 1 of the protocol and was sent version 2/);
    expect(() => readOutcome(Uint8Array.from([7]))).toThrow(/was sent version 7/);
    expect(() => readOutcome(new Uint8Array())).toThrow(/was sent version none/);
  });

  it('brings the window to the method as the emitter has it', async () => {
    const shown = ({ key, partial, revision, part, late }: Window) => ({ key, partial, revision, part, late });
    const answer = async (fields: object) =>
      readOutcome(await runTask(bytesOf([stored(1)], fields), () => shown)).result;
    expect(await answer({ key: 'ann', partial: true, revision: 2, part: 1, late: true })).toEqual({
      ...{ key: 'ann', partial: true, revision: 2, part: 1, late: true },
    });
    expect(await answer({})).toMatchObject({ partial: false, revision: 0, late: false });
  });

  it('is answered whatever it is', async () => {
    const whole = Buffer.from(bytesOf([stored({ text: 'x'.repeat(20) }), stored(2)]));
    const damage = fc.record({ length: fc.nat(whole.length), at: fc.nat(whole.length - 1), by: fc.nat(255) });
    await fc.assert(
      fc.asyncProperty(damage, async ({ length, at, by }) => {
        const bytes = Buffer.from(whole.subarray(0, length));
        if (at < bytes.length) bytes[at] = by;
        const answer = await runTask(bytes, () => () => 'done');
        try {
          expect(readOutcome(answer)).toEqual({ result: 'done', rejected: [] });
        } catch (error) {
          expect([ProtocolMismatch, RemoteHandlerError]).toContain((error as Error).constructor);
        }
      }),
    );
  });
});

describe('an answer as bytes', () => {
  it.each([
    ['undefined', undefined],
    ['null', null],
    ['0', 0],
    ['an empty string', ''],
    ['false', false],
    ['an object', { at: new Date(3), list: [1n] }],
  ])('holds a result that is %s', (_, result) => {
    expect(readOutcome(handled({ result, rejected: [] }, 'Test.take', 1_000))).toEqual({ result, rejected: [] });
  });

  it('holds what was rejected, and why', () => {
    const rejected = [
      { id: 'm', error: 'odd', stack: 'Error: odd\n    at here' },
      { id: 'n', error: 'even' },
    ];
    expect(readOutcome(handled({ result: 1, rejected }, 'Test.take', 1_000)).rejected).toEqual(rejected);
  });

  it.each<[string, unknown, RegExp]>([
    ['a function', { on: () => 1 }, /result\.on is a function.*Return plain data/],
    ['a cycle', cycle(), /result\.self is a cycle/],
    ['a set', new Set([1]), /result is a Set/],
    ['too large', 'x'.repeat(2_000), /larger than 1000 bytes.*maxResultBytes/],
  ])('refuses a result that is %s', (_, result, why) => {
    const encode = () => handled({ result, rejected: [] }, 'Test.take', 1_000);
    expect(encode).toThrow(ResultUnsendable);
    expect(encode).toThrow(why);
    expect(encode).toThrow(/^Test\.take returned/);
  });

  it('tells faults apart, and has each code once', () => {
    for (const error of [new ExecutorUnavailable('away'), new ResultUnsendable('much'), new ProtocolMismatch('old')]) {
      const read = () => readOutcome(failed(error));
      expect(read).toThrow(error.constructor as new () => Error);
      expect(read).toThrow(new RegExp(`^${error.message.replace(/[[\]]/g, '\\$&')}$`));
    }
    expect(() => readOutcome(failed(new MinibatchError('MINIBATCH_STREAM_FULL', 'full')))).toThrow(RemoteHandlerError);
  });

  it('takes a fault that the handler throws for what it is: thrown', () => {
    expect(() => readOutcome(thrown(new ExecutorUnavailable('of another executor')))).toThrow(RemoteHandlerError);
  });

  it.each<[string, unknown]>([
    ['null', null],
    ['undefined', undefined],
    ['a value of type string', 'maintenance'],
    ['a value of type number', 5],
    ['a value of type object', {}],
  ])('is refused if it is %s', async (what, answer) => {
    const read = () => readOutcome(answer as Uint8Array);
    expect(read).toThrow(ProtocolMismatch);
    expect(read).toThrow(`readOutcome was given ${what}; allowed: what WindowWorker.handle answered, as a Buffer`);
    const answered = await runTask(answer as Uint8Array, () => () => 'done');
    expect(() => readOutcome(answered)).toThrow(ProtocolMismatch);
    expect(() => readOutcome(answered)).toThrow(`WindowWorker.handle was given ${what}; allowed: what task.encode()`);
  });

  it('is refused if it is of an unknown kind', () => {
    const bytes = Buffer.from(thrown(new Error('x')));
    const text = bytes.indexOf('threw');
    bytes.write('other', text);
    expect(() => readOutcome(bytes)).toThrow(/unknown kind 'other'/);
  });
});

function cycle(): object {
  const object: { self?: object } = {};
  object.self = object;
  return object;
}
