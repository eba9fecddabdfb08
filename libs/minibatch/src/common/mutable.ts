/** For what is put together in steps, and then read only. */
export type Mutable<T> = { -readonly [K in keyof T]: T[K] };
