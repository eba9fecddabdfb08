import { AsyncLocalStorage } from 'node:async_hooks';

/** Whose call it is. */
export interface Caller {
  /** Two applications of one process may have streams of one name. */
  readonly store: object;
  readonly stream: string;
  readonly group: string;
  /** How many calls of the group may run at the same time. */
  readonly workers: number;
}

/** A running handler or sink. What it started without awaiting it may outlive it. */
export interface OwnCall extends Caller {
  isOver: boolean;
}

const storage = new AsyncLocalStorage<OwnCall>();
/** By store. Only their consumers are followed: it costs something with each promise. */
const followed = new WeakMap<object, Set<string>>();

/** From now on calls of the stream's consumers are followed. */
export function followCalls(store: object, stream: string): void {
  const streams = followed.get(store) ?? new Set();
  followed.set(store, streams.add(stream));
}

/** Calls a handler or a sink, so that what it calls can tell whose it is. */
export function asOwnCall<R>(caller: Caller, work: () => Promise<R>): Promise<R> {
  if (!followed.get(caller.store)?.has(caller.stream)) return work();
  const { store, stream, group, workers } = caller;
  const call: OwnCall = { store, stream, group, workers, isOver: false };
  return storage.run(call, async () => {
    try {
      return await work();
    } finally {
      call.isOver = true;
    }
  });
}

/** The handler or sink that this code was called by, if it is still running. */
export function ownCall(): OwnCall | undefined {
  const call = storage.getStore();
  return call?.isOver ? undefined : call;
}
