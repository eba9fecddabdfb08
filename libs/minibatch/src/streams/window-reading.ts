import { checkKeys, checkName } from '../common/checks.js';
import { consumersOf } from '../storage/partitions.js';
import type {
  ConsumerKey,
  ReadWindow,
  StreamInfo,
  StreamStore,
  WindowBounds,
} from '../storage/stream-store.interface.js';
import { checkGroup } from './known-group.js';
import { pagedWindows } from './paged-windows.js';
import { checkState, needMethod } from './reading-options.js';

/** `claimed`: open, a handler works on it or will. `kept`: committed by a consumer that keeps what it commits. */
export type WindowState = 'claimed' | 'kept';

/** Which windows of a stream; those that match all that is given. */
export interface WindowFilter {
  /** Only windows in this state. @default both */
  readonly state?: WindowState;
  /** Only windows of this group. @default all groups */
  readonly group?: string;
}

/** A window as it lies in a stream. */
export interface StreamWindow extends WindowBounds {
  /** As `window.id` in the handler. */
  readonly id: string;
  readonly group: string;
  /** The partition of its messages; absent: the first one. */
  readonly partition?: number;
  readonly state: WindowState;
  /** Ids of its messages. */
  readonly messageIds: readonly string[];
  /** When it was claimed. */
  readonly created: Date;
  /** The run in progress, or the next one: 1 for a fresh window. */
  readonly attempt: number;
  /** Processes that died while the handler may have been running. */
  readonly recoveries: number;
  /** What the last attempt failed with. */
  readonly error?: string;
  /** No attempt before this time. */
  readonly nextTry?: Date;
  /** Since when it is set aside, because all of it failed. */
  readonly aside?: Date;
  /** Its handler has succeeded, but these sinks have not taken its result yet. */
  readonly blockedSinks?: readonly string[];
  /** True: a custom strategy dropped its messages, so no handler sees them. */
  readonly dropped?: true;
  /** When it was committed. Only of a kept window. */
  readonly committed?: Date;
}

const STATES: readonly WindowState[] = ['claimed', 'kept'];

/** Looks at the windows of a stream's groups, without a lease and without a write. */
export class WindowReading {
  constructor(private readonly store: StreamStore) {}

  /** @throws MinibatchError `InvalidOptions`, `UnknownGroup`, `StoreUnsupported` */
  async *windows(stream: string, given: WindowFilter): AsyncGenerator<StreamWindow, void, undefined> {
    const where = `windows of '${stream}'`;
    const { state, group } = checkFilter(where, given);
    needMethod(this.store, where, 'readWindows');
    const info = await this.store.describeStream(stream);
    if (info === undefined) return;
    if (group !== undefined) checkGroup(info, group);
    for (const each of group === undefined ? info.groups : [group]) {
      for (const wanted of state === undefined ? STATES : [state]) yield* this.ofGroup(info, each, wanted);
    }
  }

  private async *ofGroup(
    info: StreamInfo,
    group: string,
    state: WindowState,
  ): AsyncGenerator<StreamWindow, void, undefined> {
    for (const key of consumersOf(info, [group])) {
      for await (const window of pagedWindows(this.store, key, state)) {
        if (!window.finished) yield toStreamWindow(key, state, window);
      }
    }
  }
}

function checkFilter(where: string, given: unknown): WindowFilter {
  checkKeys(where, given, ['state', 'group']);
  const { state, group } = given as Record<keyof WindowFilter, unknown>;
  return {
    ...(state === undefined ? {} : { state: checkState(where, state, STATES) }),
    ...(group === undefined ? {} : { group: checkName(where, 'group', group) }),
  };
}

/** Without what only the engine understands. */
function toStreamWindow({ group, partition }: ConsumerKey, state: WindowState, window: ReadWindow): StreamWindow {
  const { seq: _, split: __, starts: ___, finished: ____, settled, dropped, ...shown } = window;
  return {
    ...shown,
    group,
    ...(partition > 0 && { partition }),
    state,
    ...(dropped && { dropped }),
    ...(settled !== undefined && { committed: settled }),
  };
}
