import 'reflect-metadata';
import { counted } from '../common/counted.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';

/** Where the compiler and `@Inject()` write down what a constructor takes, and what the decorators of Nest leave on a class. */
const TYPES = 'design:paramtypes';
const NAMED = 'self:paramtypes';
const MARKS = ['__injectable__', '__controller__'];

/**
 * Nest calls a constructor whose parameters it does not know without arguments, and the class fails much later, with
 * "Cannot read properties of undefined". So this asks at boot.
 *
 * A parameter with a default value counts as none: `function.length` does not have it.
 *
 * @throws MinibatchError `NotInjectable`
 */
export function requireInjectable(label: string, type: { readonly name: string; readonly length: number }): void {
  const known = knownParameters(type);
  if (known >= type.length) return;
  const count = counted(type.length, 'parameter');
  const isMarked = MARKS.some((mark) => Reflect.hasOwnMetadata(mark, type));
  const advice = isMarked
    ? 'the compiler left no types of parameters: set emitDecoratorMetadata in the tsconfig.json that it reads, or use a compiler that ' +
      'supports it (esbuild does not), or name what to inject by @Inject() at each parameter'
    : 'decorate the class with @Injectable(), or give the parameters default values';
  throw new MinibatchError(
    ErrorCode.NotInjectable,
    `${label}: the constructor of ${type.name} takes ${count}, and Nest knows ${known === 0 ? 'none' : `only ${known}`} of them, so ` +
      `they would be undefined: ${advice}`,
    { details: { class: type.name, parameters: type.length, known } },
  );
}

/** A subclass without types of its own is given those of its base class. */
function knownParameters(type: object): number {
  const types = (Reflect.getMetadata(TYPES, type) as readonly unknown[] | undefined) ?? [];
  const named = (Reflect.getMetadata(NAMED, type) as readonly { readonly index: number }[] | undefined) ?? [];
  return Math.max(types.length, ...named.map(({ index }) => index + 1));
}
