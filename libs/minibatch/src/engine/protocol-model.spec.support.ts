import type { MemoryDatabase } from '../storage/memory/memory.database.js';
import { decodeMessage } from '../storage/encoded-message.js';
import type { MessageId, StreamStore, WindowRecord } from '../storage/stream-store.interface.js';
import type { StoreCall } from '../testing/wrapped-store.js';
import { STREAM } from './process.spec.support.js';
import type { GroupPlan } from './protocol-plan.spec.support.js';
import { chained, outOf, values } from './protocol-stage.spec.support.js';

export interface GroupState {
  readonly plan: GroupPlan;
  /** Messages of recorded commit points, and the window that each was in. */
  readonly committed: Map<MessageId, string>;
  /** Messages of windows that were taken apart, through their handler and sinks or given up. */
  readonly inParts: Set<MessageId>;
  /** Messages with which the handler has failed: others may get ahead of them. */
  readonly failed: Set<MessageId>;
  /** Messages that its stage makes dead letters of. */
  readonly rejected: Set<MessageId>;
  /** Ids of the windows in recorded commit points. */
  readonly recorded: Set<string>;
  readonly seqs: Map<string, WindowRecord>;
  /** Highest id of a claimed message, among those that were visible from the first. */
  readonly idsOfWindows: Map<string, string>;
}

/** What the contract allows: keeps the books of what was appended, handled and committed, and notes what must not be. */
export class ProtocolModel {
  readonly violations: string[] = [];
  readonly groups = new Map<string, GroupState>();
  readonly appended = new Map<MessageId, number>();
  /** Messages that were not visible from the first. */
  readonly late = new Set<MessageId>();

  constructor(
    private readonly database: MemoryDatabase,
    groups: readonly GroupPlan[],
  ) {
    groups.forEach((plan, index) =>
      this.groups.set(`g${index}`, {
        plan,
        committed: new Map(),
        inParts: new Set(),
        failed: new Set(),
        rejected: new Set(),
        recorded: new Set(),
        seqs: new Map(),
        idsOfWindows: new Map(),
      }),
    );
  }

  /** Checks a call on its way to the database, and what comes of it. `through`: windows whose handler and sinks are through. */
  async observe(through: ReadonlySet<string>, call: StoreCall): Promise<unknown> {
    switch (call.method) {
      case 'claim': {
        await call.proceed();
        const [lease, windows] = call.args as Parameters<StreamStore['claim']>;
        this.claimed(lease, windows);
        // As of a store that puts two windows into a record.
        return windows.filter(({ seq }) => seq % 2 === 0).map(({ seq }) => seq);
      }
      case 'commit': {
        const [lease, { finished }] = call.args as Parameters<StreamStore['commit']>;
        const consumer = this.consumer(lease.key.group);
        const holds = consumer?.fence === lease.fence && consumer.owner?.id === lease.owner.id;
        const windows = finished.map((seq) => consumer?.windows.get(seq));
        const result = await call.proceed();
        if (!holds) this.violate('a commit by a process that does not hold the lease');
        windows.forEach((window, index) => {
          if (window) this.commit(through, lease.key.group, lease.fence, window);
          else if (!this.groups.get(lease.key.group)?.seqs.has(`${lease.fence}/${finished[index]}`)) {
            this.violate(`a commit of window ${finished[index]}, which is not stored`);
          }
        });
        return result;
      }
      case 'reschedule': {
        const [{ key }, window] = call.args as Parameters<StreamStore['reschedule']>;
        const isThrough = window.split !== undefined && through.has(window.id);
        const result = await call.proceed();
        // A window that was taken apart and went through in one piece: the process that takes it over has nothing left to handle.
        if (isThrough) for (const id of window.messageIds) this.groups.get(key.group)?.inParts.add(id);
        return result;
      }
      case 'bury': {
        const [{ key }, letters] = call.args as Parameters<StreamStore['bury']>;
        const result = await call.proceed();
        for (const { message } of letters) this.groups.get(key.group)?.inParts.add(message.id);
        return result;
      }
      case 'settle': {
        const [{ key }, windows] = call.args as Parameters<StreamStore['settle']>;
        for (const { window } of windows) {
          if (!this.groups.get(key.group)?.recorded.has(recordKey(window))) {
            this.violate(`settled before its commit point: ${window.id}`);
          }
        }
        return call.proceed();
      }
      default:
        return call.proceed();
    }
  }

  violate(what: string): void {
    this.violations.push(what);
  }

  consumer(name: string) {
    return this.database.streams.get(STREAM)?.consumer({ stream: STREAM, group: name, partition: 0 });
  }

  sameId(state: GroupState, id: string, messageIds: readonly MessageId[]): void {
    if (messageIds.length === 0) return;
    const content = messageIds.toSorted().join();
    const known = state.idsOfWindows.get(content) ?? state.idsOfWindows.get(id);
    state.idsOfWindows.set(content, id);
    state.idsOfWindows.set(id, content);
    if (known !== undefined && known !== id && known !== content) this.violate(`${id}: other messages or another id`);
  }

  /** After a claim has reached the database. */
  private claimed(...[{ key }, windows]: Parameters<StreamStore['claim']>): void {
    const state = this.groups.get(key.group) as GroupState;
    for (const { id, messageIds } of windows) this.sameId(state, id, messageIds);
    const open = [...(this.consumer(key.group)?.windows.values() ?? [])].sort((a, b) => a.seq - b.seq);
    const ids = open.flatMap(({ messageIds }) => messageIds);
    if (new Set(ids).size !== ids.length) this.violate('a message is in two open windows');
    if (state.plan.kind === 'own' || state.plan.kind === 'fixed') return;
    const ordered = ids.filter((id) => !this.late.has(id));
    if (ordered.some((id, index) => index > 0 && id < (ordered[index - 1] as string)))
      this.violate('claimed out of order');
  }

  private commit(through: ReadonlySet<string>, name: string, fence: number, window: WindowRecord): void {
    const state = this.groups.get(name) as GroupState;
    const at = `${fence}/${window.seq}`;
    // A repeated commit point: the answer to the first was lost.
    if (state.seqs.get(at)?.id === window.id) return;
    state.seqs.set(at, window);
    state.recorded.add(recordKey(window));
    const done = through.has(window.id) || window.messageIds.every((id) => state.inParts.has(id));
    if (!window.dropped && !done) {
      this.violate(`${window.id} is committed before its handler and its sinks are through`);
    }
    for (const id of window.messageIds) {
      if (state.committed.has(id)) this.violate(`message ${id} is committed twice`);
      state.committed.set(id, window.id);
    }
    if (state.plan.kind === 'own' || state.plan.kind === 'fixed') return;
    if (state.plan.workers > 1 && state.plan.kind !== 'stage') return;
    // Strictly one after another, so nothing that was visible from the first is committed before what came before it, unless that
    // has failed and is set aside.
    const first = window.messageIds.find((id) => !this.late.has(id));
    if (first === undefined) return;
    for (const id of this.appended.keys()) {
      if (id >= first) break;
      if (this.late.has(id) || state.failed.has(id) || state.committed.has(id)) continue;
      this.violate(`${first} is committed before ${id}`);
    }
  }

  /** Each committed message had its effects once, in the order of the commits. In the end, when all is settled. */
  checkEffects(): void {
    for (const [name, { plan, committed, rejected }] of this.groups) {
      if (plan.kind !== 'stage') continue;
      const { outputs, rows } = chained([...committed.keys()].map((id) => this.appended.get(id) as number));
      const out = [...(this.database.streams.get(outOf(name))?.messages.after(undefined) ?? [])];
      const appended = out.map(({ id, encoded }) => decodeMessage(id, encoded).read().data);
      this.same(`${name} has appended`, appended, outputs);
      const state = [...(this.consumer(name)?.state.values() ?? [])].sort((a, b) => (a.slot < b.slot ? -1 : 1));
      const stored = state.map(({ slot, value }) => [slot, values.decode(value)]);
      this.same(
        `${name} has the rows`,
        stored,
        Object.entries(rows).sort(([a], [b]) => (a < b ? -1 : 1)),
      );
      const letters = this.database.streams.get(STREAM)?.letters.size ?? 0;
      if (letters < rejected.size) this.violate(`${letters} dead letters, and ${name} has rejected ${rejected.size}`);
    }
  }

  private same(what: string, found: unknown, right: unknown): void {
    const [a, b] = [JSON.stringify(found), JSON.stringify(right)];
    if (a !== b) this.violate(`${what} ${a} and not ${b}`);
  }

  /** Nothing is lost: what a group has not committed is there for it. */
  checkMessages(): void {
    const buffered = this.database.streams.get(STREAM)?.messages;
    for (const [name, { committed }] of this.groups) {
      for (const id of this.appended.keys()) {
        if (committed.has(id)) continue;
        const entry = buffered?.get(id);
        if (!entry || entry.doneBy.has(name)) this.violate(`message ${id} is lost for ${name}`);
      }
    }
  }
}

function recordKey({ id, messageIds }: WindowRecord): string {
  return `${id}#${messageIds.length}`;
}
