import type { Lease, Recovery, WindowRecord } from '../stream-store.interface.js';
import { held } from './leases.js';
import type { MemoryDatabase } from './memory.database.js';

/** Checking the lease and claiming are one step, so no window is ever void. @throws LeaseLost */
export function recover(database: MemoryDatabase, lease: Lease): Recovery {
  const { stream, consumer } = held(database, lease);
  const windows = [...consumer.windows.values()].sort((a, b) => a.seq - b.seq);
  const finished = new Set(consumer.finished);
  return {
    progress: { ...consumer.progress },
    finished: windows.filter((window) => finished.has(window.seq)).map(copyWindow),
    open: windows.filter((window) => !finished.has(window.seq)).map(copyWindow),
    groups: [...stream.groups],
  };
}

/** @throws LeaseLost */
export function claim(database: MemoryDatabase, lease: Lease, windows: readonly WindowRecord[]): void {
  const { consumer } = held(database, lease);
  for (const window of windows) consumer.windows.set(window.seq, copyWindow(window));
}

/** @throws LeaseLost */
export function reschedule(database: MemoryDatabase, lease: Lease, window: WindowRecord): void {
  const { consumer } = held(database, lease);
  if (consumer.windows.has(window.seq)) consumer.windows.set(window.seq, copyWindow(window));
}

export function copyWindow(window: WindowRecord): WindowRecord {
  return structuredClone(window);
}
