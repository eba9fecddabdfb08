import { ObjectId } from 'bson';
import fc from 'fast-check';

const throwing = () => {
  throw new Error('a getter that throws');
};

const revoked = () => {
  const { proxy, revoke } = Proxy.revocable(new Error('x'), {});
  revoke();
  return proxy;
};

const withGetter = (target: object, name: string) => Object.defineProperty(target, name, { get: throwing });

/** Makes what a client may hand to a callback in place of an error or a packet. fast-check itself could not look at some of these. */
export const hostileValue: fc.Arbitrary<() => unknown> = fc.constantFrom<() => unknown>(
  () => undefined,
  () => null,
  () => 'text',
  () => 0n,
  () => Symbol('s'),
  () => Object.create(null),
  () => ({ toString: throwing }),
  () => throwing,
  revoked,
  () => withGetter(new Error('x'), 'message'),
  () => withGetter(new Error('x'), 'stack'),
  () => withGetter(new Error('x'), 'code'),
  () => withGetter({}, 'reasonCode'),
  () => Object.assign(new Error('x'), { message: Symbol('s'), code: Symbol('s') }),
  () => Object.assign(new Error('x'), { message: { toString: throwing }, code: {} }),
  () => withGetter(new AggregateError([], ''), 'errors'),
  () => Object.assign(new AggregateError([], ''), { errors: 7 }),
  () => new AggregateError([revoked(), Symbol('s')], ''),
  () => new Proxy({}, { get: throwing, has: throwing, getPrototypeOf: throwing }),
  () => ({ reasonCode: Symbol('s') }),
  () => ({ reasonCode: 135 }),
  () => Object.assign(new Error('refused'), { code: 403 }),
);

/** Is stored as a string of one byte that is not UTF-8. Its field needs a name of one letter. */
export class BrokenText extends ObjectId {
  serializeInto(target: Uint8Array, at: number): number {
    // Over the type of an ObjectId, which is before the name and its NUL.
    target[at - 3] = 2;
    const bytes = [2, 0, 0, 0, 0xff, 0];
    target.set(bytes, at);
    return bytes.length;
  }
}
