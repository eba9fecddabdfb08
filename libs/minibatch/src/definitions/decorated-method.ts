import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';

/**
 * What is no method would never be found.
 *
 * @param decorator with its `@`
 * @param example the method, as it should be written
 * @returns `Class.method` @throws MinibatchError `InvalidOptions`
 */
export function requireMethod(
  decorator: string,
  example: string,
  target: object,
  propertyKey: unknown,
  descriptor: PropertyDescriptor | undefined,
): string {
  const label = labelOf(target, propertyKey);
  const wrong = whyNot(target, propertyKey, descriptor);
  if (wrong === undefined) return label;
  const why = `${decorator} ${wrong.replace('{example}', example)}`;
  throw new MinibatchError(ErrorCode.InvalidOptions, `${label}: ${why}`, { details: { consumer: label } });
}

/**
 * A decorator without its parentheses is given what it decorates. It would return a function that nobody calls, and that stands in the place
 * of the method or class from then on.
 *
 * @param example of the decorator, as it should be written
 * @param given its first two arguments @throws MinibatchError `InvalidOptions`
 */
export function requireParentheses(decorator: string, example: string, given: unknown, next: unknown): void {
  // A class, or what a standard decorator is given; or a prototype and the name of a method.
  const isBare =
    typeof given === 'function' || (isObject(given) && (typeof next === 'string' || typeof next === 'symbol'));
  if (!isBare) return;
  const label = typeof given === 'function' ? given.name : labelOf(given, next);
  throw new MinibatchError(ErrorCode.InvalidOptions, `${label}: ${decorator} needs parentheses: write ${example}`, {
    details: { decorated: label },
  });
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;

function whyNot(target: object, propertyKey: unknown, descriptor: PropertyDescriptor | undefined): string | undefined {
  if (typeof propertyKey === 'object') {
    return (
      'was compiled as a standard decorator, and Nest needs the other kind: set experimentalDecorators and ' +
      'emitDecoratorMetadata in the tsconfig.json that the compiler reads'
    );
  }
  if (typeof target === 'function' || typeof propertyKey === 'symbol') {
    return 'works on methods of instances with a name, not on static methods or symbols';
  }
  if (typeof descriptor?.value !== 'function') {
    return 'works on methods, not on properties or accessors: write it as a method, {example}';
  }
  return undefined;
}

function labelOf(target: object, propertyKey: unknown): string {
  // What a standard decorator is given.
  if (typeof propertyKey === 'object' && propertyKey !== null && 'name' in propertyKey) return String(propertyKey.name);
  const owner = typeof target === 'function' ? target : target.constructor;
  return `${owner.name}.${String(propertyKey)}`;
}
