import { messageOf } from '../errors/minibatch.error.js';
import { isRefused } from '../errors/refusal.js';
import type { Mutable } from '../common/mutable.js';
import type { BlockedSink } from './engine.interface.js';

/** At most this many are named. */
const MOST = 10;

/** The sinks of a consumer that do not take a result, with the windows that wait for them. */
export class BlockedSinks {
  private readonly all = new Set<Mutable<BlockedSink>>();

  get size(): number {
    return this.all.size;
  }

  /** The oldest first; ten at the most. */
  get named(): readonly BlockedSink[] {
    return [...this.all].slice(0, MOST).map((blocked) => ({ ...blocked }));
  }

  /** Its first try has failed. */
  add(window: string, sink: string, at: number): Mutable<BlockedSink> {
    const blocked = { window, sink, since: new Date(at), attempts: 0, error: '' };
    this.all.add(blocked);
    return blocked;
  }

  remove(blocked: BlockedSink): void {
    this.all.delete(blocked);
  }
}

/** Another try has failed. */
export function countFailure(blocked: Mutable<BlockedSink>, error: unknown): void {
  blocked.attempts += 1;
  blocked.error = messageOf(error);
  if (isRefused(error)) blocked.refused = true;
  else delete blocked.refused;
}
