import { beforeEach } from 'vitest';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { WindowRecord } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import type { StoreCall } from '../testing/wrapped-store.js';
import { type ConsumerChoice, LEASE, Process, STREAM, turns } from './process.spec.support.js';

/** Of each window that was stored again, in order. */
export type Rescheduled = Pick<WindowRecord, 'seq' | 'attempt' | 'recoveries'>;

export const never = () => new Promise<never>(() => undefined);

/** A database for each test of the suite that calls this, and processes on it. */
export function useTakeOver() {
  let database: MemoryDatabase;
  let plain: MemoryStreamStore;
  let rescheduled: Rescheduled[];
  beforeEach(() => {
    database = new MemoryDatabase();
    plain = new MemoryStreamStore(database);
    rescheduled = [];
  });

  const noted = (call: StoreCall) => {
    if (call.method === 'reschedule') {
      const { seq, attempt, recoveries } = call.args[1] as WindowRecord;
      rescheduled.push({ seq, attempt, recoveries });
    }
    return call.proceed();
  };

  return {
    get database() {
      return database;
    },
    get plain() {
      return plain;
    },
    get rescheduled(): readonly Rescheduled[] {
      return rescheduled;
    },

    async append(...data: unknown[]): Promise<void> {
      await plain.ensureStream(STREAM);
      await plain.append(data.map((each) => ({ stream: STREAM, data: each, created: new Date() })));
    },

    /** A process that notes what it stores again, after its wait for the lease. */
    async next(at: number, choice: ConsumerChoice, wait = LEASE * 1.5): Promise<Process> {
      const p = new Process(database, { clock: new VirtualClock(at), around: noted }).consumer(choice);
      await p.engine.start();
      await p.clock.advance(wait, () => turns(() => false, 60));
      return p;
    },
  };
}
