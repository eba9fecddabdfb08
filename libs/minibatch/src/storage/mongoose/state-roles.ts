import type { AppendOutcome, NewMessage } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { DecidedEffects } from './decided-effects.js';
import { CommitEffects } from './effects.js';
import { EffectsApplication } from './effects-application.js';
import type { Indexes } from './indexes.js';
import { StateReads } from './state.js';
import { StateRemoval } from './state-removal.js';

/** The roles that have to do with the state of consumers. */
export interface StateRoles {
  readonly decided: DecidedEffects;
  readonly effects: CommitEffects;
  readonly removal: StateRemoval;
  readonly reads: StateReads;
}

/** @param append messages that commits have decided */
export function stateRoles(
  collections: Collections,
  indexes: Indexes,
  append: (messages: readonly NewMessage[]) => Promise<readonly AppendOutcome[]>,
): StateRoles {
  const decided = new DecidedEffects();
  const application = new EffectsApplication(collections, indexes, append);
  return {
    decided,
    effects: new CommitEffects(collections, decided, application),
    removal: new StateRemoval(collections, application, indexes),
    reads: new StateReads(collections, decided),
  };
}
