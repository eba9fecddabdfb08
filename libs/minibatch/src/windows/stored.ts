/** Comes back as it is. BSON values are told by their tag: there may be several copies of their package. */
type Kept =
  | string
  | number
  | boolean
  | bigint
  | null
  | undefined
  | Date
  | RegExp
  | {
      readonly _bsontype:
        'Binary' | 'BSONRegExp' | 'Code' | 'Decimal128' | 'MaxKey' | 'MinKey' | 'ObjectId' | 'Timestamp';
    };

/** What JavaScript has for other BSON values. */
interface Replaced {
  readonly Long: bigint;
  readonly Int32: number;
  readonly Double: number;
  readonly BSONSymbol: string;
  readonly DBRef: object;
}

type Method = (...values: never[]) => unknown;

type Changed<T> = T extends Kept
  ? T
  : T extends { readonly _bsontype: infer Tag extends keyof Replaced }
    ? Replaced[Tag]
    : T extends Uint8Array
      ? Buffer
      : T extends Method | symbol
        ? never
        : T extends { toBSON(...values: never[]): infer R } | { toJSON(...values: never[]): infer R }
          ? Stored<R>
          : T extends readonly unknown[]
            ? { [K in keyof T]: T[K] extends undefined ? null : Stored<T[K]> }
            : T extends object
              ? { [K in keyof T as T[K] extends Method ? never : K]: Stored<T[K]> }
              : T;

/**
 * What messages of the type `T` come back as: bytes as a `Buffer`, an instance of a class without its methods, an object with `toJSON`
 * as what that returns. See `docs/reference/values.md`.
 *
 * @example
 * ```ts
 * const Payments = defineStream<Payment>('payments'); // a class
 * @Streaming(Payments, { size: 100 }) book(window: Window<Stored<Payment>>) {}
 * ```
 */
export type Stored<T> = unknown extends T ? T : Changed<T>;
