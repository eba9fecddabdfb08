import type { mongo } from 'mongoose';
import { beforeEach } from 'vitest';
import {
  keyOf,
  messageOf,
  RIVAL,
  takeLease,
  type TestStore,
  useStore,
  windowOf,
} from '../../../../../test/support/mongoose-store.js';
import type { Effects, Lease, NewMessage, StateRow, StreamStore, WindowRecord } from '../stream-store.interface.js';
import { MongooseStreamStore } from './mongoose.store.js';
import type { ConsumerDocument } from './schemas/consumer.schema.js';

export const KEY = keyOf('flights');
export const TARGET = keyOf('results');
export const HOUR = 60 * 60 * 1000;
export const DAY = 24 * HOUR;
/** Of a sweep that is to remove all that it may. */
export const LATER = { tombstones: new Date(Date.now() + 10 * DAY) };
export const PAGE = { rows: 1000, bytes: 2 ** 24 };

export function row(slot: string, value: number, due?: Date): StateRow {
  return { slot, value: Uint8Array.of(value), ...(due && { due }) };
}

export function output(n: number): NewMessage {
  return messageOf('results', n, { dedupeId: `output-${n}` });
}

export async function rowsOf(store: StreamStore, key = KEY): Promise<Record<string, number | undefined>> {
  const { rows } = await store.listState!(key, undefined, PAGE);
  return Object.fromEntries(rows.map(({ slot, value }) => [slot, value[0]]));
}

/** Claims windows without messages and commits them; what is left is to settle them. */
export async function commit(store: StreamStore, lease: Lease, effects: ReadonlyMap<number, Effects>) {
  const windows = [...effects.keys()].map((seq) => windowOf(seq, []));
  await store.claim(lease, windows);
  const finished = windows.map(({ seq }) => seq);
  const lastSeq = Math.max(...finished);
  const groups = await store.commit(lease, {
    finished,
    progress: { lastSeq, windows: lastSeq, messages: 0 },
    effects,
  });
  return { windows, groups, settle: () => settle(store, lease, windows, groups) };
}

export function settle(store: StreamStore, lease: Lease, windows: readonly WindowRecord[], groups: readonly string[]) {
  return store.settle(
    lease,
    windows.map((window) => ({ window, messages: [] })),
    { groups, keep: false },
  );
}

/** Takes the consumer over and settles what was committed, as the engine does. */
export async function takeOver(store: StreamStore, owner = RIVAL): Promise<Lease> {
  const [state] = await store.readLeases([KEY]);
  const lease = await store.acquireLease(KEY, owner, state!);
  const { finished, groups } = await store.recover(lease!);
  if (finished.length > 0) await settle(store, lease!, finished, groups);
  return lease!;
}

/** A store with a consumer, which has recovered, and a stream for its results. Valid within tests. */
export function useConsumer() {
  const test: TestStore = useStore();
  let lease: Lease;
  beforeEach(async () => {
    const { store } = test;
    await store.ensureStream('results');
    await store.registerGroup(TARGET);
    lease = await takeLease(store, KEY);
    await store.recover(lease);
    test.commands();
  });
  const consumers = () => test.connection.collection<ConsumerDocument>('consumer');
  const consumer = async () => (await consumers().findOne({ _id: 'flights/default/0' }))!;
  return {
    test,
    lease: () => lease,
    another: async () => new MongooseStreamStore(await test.database.connect()),
    consumers,
    consumer,
    states: () => test.connection.collection<mongo.Document>('state'),
    decided: async () => Object.keys((await consumer()).effects ?? {}),
  };
}
