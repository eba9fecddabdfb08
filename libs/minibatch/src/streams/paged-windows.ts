import type { ConsumerKey, ReadWindow, StreamStore } from '../storage/stream-store.interface.js';

/** Windows of one read. */
const PAGE = 100;

/** Windows of one group, read page by page. The store must have `readWindows`: see `needMethod`. */
export async function* pagedWindows(
  store: StreamStore,
  key: ConsumerKey,
  state: 'claimed' | 'kept',
): AsyncGenerator<ReadWindow, void, undefined> {
  for (let after: string | undefined; ;) {
    const page = await store.readWindows?.(key, state, after, PAGE);
    yield* page?.windows ?? [];
    if (page?.next === undefined) return;
    after = page.next;
  }
}
