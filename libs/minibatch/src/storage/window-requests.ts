import type { StreamUpdate, WindowRequest } from './stream-store.interface.js';

/** The requests of a stream after a change; a window has at most one of each kind, and one for each sink. */
export function changedRequests(
  requests: readonly WindowRequest[] | undefined,
  { request, answered }: StreamUpdate,
): readonly WindowRequest[] {
  const isSame = (one: WindowRequest, other: WindowRequest | undefined) =>
    one.group === other?.group && one.window === other.window && one.action === other.action && one.sink === other.sink;
  const rest = (requests ?? []).filter((each) => !isSame(each, answered) && !isSame(each, request));
  return request ? [...rest, { ...request }] : rest;
}
