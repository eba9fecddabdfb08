import type { Connection, ConnectOptions, mongo } from 'mongoose';
import { afterEach, beforeEach } from 'vitest';
import { MongooseStreamStore } from '../../libs/minibatch/src/storage/mongoose/index.js';
import type { MongooseStreamStoreOptions } from '../../libs/minibatch/src/storage/mongoose/index.js';
import type {
  ConsumerKey,
  Lease,
  LeaseOwner,
  NewMessage,
  StreamStore,
  WindowRecord,
} from '../../libs/minibatch/src/storage/stream-store.interface.js';
import { openDatabase, type TestDatabase } from './mongo-server.js';

/** A store on an empty database, with the commands it sends. */
export interface TestStore {
  readonly store: MongooseStreamStore;
  readonly connection: Connection;
  readonly database: TestDatabase;
  /** Names of the commands sent since the last call, in order. */
  commands(): string[];
  dispose(): Promise<void>;
}

export interface TestStoreOptions extends MongooseStreamStoreOptions {
  readonly database?: TestDatabase;
  readonly connect?: ConnectOptions;
}

export async function openStore(options: TestStoreOptions = {}): Promise<TestStore> {
  const database = options.database ?? openDatabase();
  const connection = await database.connect({ monitorCommands: true, ...options.connect });
  let sent: string[] = [];
  connection.getClient().on('commandStarted', ({ commandName }) => sent.push(commandName));
  const store = new MongooseStreamStore(connection, options);
  await store.open();
  sent = [];
  return {
    store,
    connection,
    database,
    commands: () => {
      const names = sent;
      sent = [];
      return names;
    },
    dispose: async () => {
      await store.close();
      await database.dispose();
    },
  };
}

/**
 * A store for each test of the suite that calls this, made before and closed after it. Valid within tests and hooks alone.
 *
 * @param options called before each test
 */
export function useStore(options: () => TestStoreOptions = () => ({})): TestStore {
  let test: TestStore;
  beforeEach(async () => {
    test = await openStore(options());
  });
  afterEach(() => test.dispose());
  return {
    get store() {
      return test.store;
    },
    get connection() {
      return test.connection;
    },
    get database() {
      return test.database;
    },
    commands: () => test.commands(),
    dispose: () => test.dispose(),
  };
}

export const OWNER: LeaseOwner = { id: 'owner-1', host: 'here', bootId: 'boot', pid: 1, startTime: '1' };
export const RIVAL: LeaseOwner = { ...OWNER, id: 'owner-2', pid: 2 };

export function keyOf(stream: string, group = 'default', partition = 0): ConsumerKey {
  return { stream, group, partition };
}

export function messageOf(stream: string, data: unknown, more: Partial<NewMessage> = {}): NewMessage {
  return { stream, data, created: new Date(), ...more };
}

export function windowOf(seq: number, messageIds: readonly string[], more: Partial<WindowRecord> = {}): WindowRecord {
  return { seq, id: `window-${seq}`, messageIds, created: new Date(), attempt: 1, recoveries: 0, ...more };
}

/** Appends and gives the ids, which a test expects to be stored. */
export async function appendAll(store: StreamStore, messages: readonly NewMessage[]): Promise<string[]> {
  const outcomes = await store.append(messages);
  return outcomes.map((outcome) => {
    if (outcome.status === 'stored') return outcome.id;
    throw outcome.status === 'failed' ? outcome.error : new Error('a duplicate');
  });
}

/** Registers the consumer and takes its lease, no matter who has it. */
export async function takeLease(store: StreamStore, key: ConsumerKey, owner: LeaseOwner = OWNER): Promise<Lease> {
  await store.registerGroup(key);
  const [state] = await store.readLeases([key]);
  const lease = state && (await store.acquireLease(key, owner, state));
  if (!lease) throw new Error('no lease');
  return lease;
}

/** Everything that is waiting for the consumer. */
export async function dataOf(store: StreamStore, key: ConsumerKey): Promise<unknown[]> {
  const { messages } = await store.fetch(key, undefined, { messages: 10_000, bytes: 2 ** 30 });
  return messages.map(({ data }) => data);
}

export type SendCommand = (command: mongo.Document, options?: mongo.RunCommandOptions) => Promise<mongo.Document>;

/** The collection on a server that is changed on the way to it: what is sent as a command of the database goes through `change`. */
export function changedOnTheWay<T extends mongo.Document>(
  collection: mongo.Collection<T>,
  change: (send: SendCommand) => SendCommand,
): mongo.Collection<T> {
  const { db } = collection;
  const command = change((sent, options) => db.command(sent, options));
  return new Proxy(collection, {
    get(target, name) {
      if (name === 'db') return { command };
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
