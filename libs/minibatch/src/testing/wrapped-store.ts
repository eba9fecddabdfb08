import type { StreamStore } from '../storage/stream-store.interface.js';

type Method = {
  [K in keyof StreamStore]-?: NonNullable<StreamStore[K]> extends (...args: never[]) => Promise<unknown> ? K : never;
}[keyof StreamStore];

/** A call of the port on its way to the store. */
export interface StoreCall {
  readonly method: Method;
  readonly args: readonly unknown[];
  /** Lets the store do it. */
  proceed(): Promise<unknown>;
}

/**
 * A store whose every call goes through `around`: to count, to fail before or after the effect, to stop a process dead at a
 * named step. Faults live here and not in switches of the code under test.
 */
export function wrapStore(store: StreamStore, around: (call: StoreCall) => Promise<unknown>): StreamStore {
  return new Proxy(store, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property, target);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) =>
        around({
          method: property as Method,
          args,
          proceed: () => Promise.resolve(Reflect.apply(value, target, args) as unknown),
        });
    },
  });
}

/** A store of a process that can be stopped dead: from then on no call has an effect, and none ever answers. */
export function mortalStore(store: StreamStore): { readonly store: StreamStore; kill(): void } {
  let dead = false;
  const never = new Promise<never>(() => undefined);
  return {
    store: wrapStore(store, async (call) => {
      if (dead) return never;
      const result = await call.proceed();
      return dead ? never : result;
    }),
    kill: () => {
      dead = true;
    },
  };
}
