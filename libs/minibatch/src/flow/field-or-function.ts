import type { Message } from '../windows/message.js';

/** A field of the data whose values are of the type `V`, or a function of data and message that returns one. */
export type FieldOrFunction<T, V> =
  | (T extends object ? { [K in keyof T]-?: T[K] extends V ? K : never }[keyof T] & string : never)
  | ((data: T, message: Message) => V);

/** The same for who does not know the types. */
export type AnyFieldOrFunction = string | ((data: unknown, message: Message) => unknown);

/** Reads the field, or calls the function. Data that has no fields has no such field. */
export function readerOf(of: AnyFieldOrFunction): (data: unknown, message: Message) => unknown {
  if (typeof of === 'function') return of;
  return (data): unknown => (typeof data === 'object' && data !== null ? Reflect.get(data, of) : undefined);
}
