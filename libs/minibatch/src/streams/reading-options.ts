import { invalidOption } from '../common/checks.js';
import { readingUnsupported } from '../errors/store-faults.js';
import type { MessageId, StreamStore } from '../storage/stream-store.interface.js';

/** Checks of what looks into a stream. */

export function checkState<S extends string>(where: string, given: unknown, allowed: readonly S[]): S {
  const known = allowed.find((state) => state === given);
  if (known !== undefined) return known;
  throw invalidOption(where, 'state', given, allowed.map((state) => `'${state}'`).join(', '));
}

export function checkId(store: StreamStore, where: string, option: string, given: unknown): MessageId {
  if (typeof given === 'string' && store.idPattern?.test(given) !== false) return given;
  throw invalidOption(where, option, given, `the id of a message in the ${store.name} store, as \`message.id\``);
}

/** A store of the application's own may lack it. @throws MinibatchError `StoreUnsupported` */
export function needMethod(store: StreamStore, where: string, method: 'readKept' | 'readWindows' | 'replay'): void {
  if (store[method] === undefined) throw readingUnsupported(store.name, where, method);
}
