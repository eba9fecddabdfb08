import { type Clock, delay } from '../common/clock.js';
import type { Log } from '../common/log.js';
import type { StreamStore } from '../storage/stream-store.interface.js';

/** The least that a store gets to close; milliseconds. */
const LEAST = 500;

export interface StoreClosing {
  readonly clock: Clock;
  readonly log: Pick<Log, 'warn'>;
  /** How long it may take; milliseconds. */
  readonly within: number;
}

/** Closes the store. A server that has stopped to answer does not keep the process from its end. @throws what `store.close()` throws */
export async function closeStore(store: StreamStore, { clock, log, within }: StoreClosing): Promise<void> {
  const most = Math.max(within, LEAST);
  const closed = new AbortController();
  const closing = store.close().finally(() => closed.abort());
  const late = delay(clock, most, closed.signal).then(() => {
    if (!closed.signal.aborted) {
      log.warn(
        `the store (${store.name}) did not close within ${most} ms: its server does not answer. Going on without`,
      );
    }
  });
  await Promise.race([closing, late]);
}
