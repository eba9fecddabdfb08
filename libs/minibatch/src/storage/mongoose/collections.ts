import { mongo } from 'mongoose';
import type { Connection, Model } from 'mongoose';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { BufferSchema, type BufferDocument } from './schemas/buffer.schema.js';
import { ConsumerSchema, type ConsumerDocument } from './schemas/consumer.schema.js';
import { DeadletterSchema, type DeadletterDocument } from './schemas/deadletter.schema.js';
import type { Role } from './schemas/schema-options.js';
import { StateSchema, type StateDocument } from './schemas/state.schema.js';
import { StreamSchema, type StreamDocument } from './schemas/stream.schema.js';
import { WindowSchema, type WindowDocument } from './schemas/window.schema.js';

/** Names of the collections in the database. The defaults are those of the Python library. */
export type CollectionNames = Readonly<Record<Role, string>>;

export const COLLECTION_NAMES: CollectionNames = {
  stream: 'stream',
  buffer: 'buffer',
  window: 'window',
  consumer: 'consumer',
  deadletter: 'deadletter',
  state: 'state',
};

/** The given names, completed by the defaults. */
export function collectionNames(given: Partial<CollectionNames> = {}): CollectionNames {
  const roles = Object.keys(COLLECTION_NAMES) as Role[];
  return Object.fromEntries(roles.map((role) => [role, given[role] ?? COLLECTION_NAMES[role]])) as CollectionNames;
}

/** Prefixed, so that they do not clash with an application's `Stream` or `Window`. */
export const MODEL_NAMES: CollectionNames = {
  stream: 'MinibatchStream',
  buffer: 'MinibatchBuffer',
  window: 'MinibatchWindow',
  consumer: 'MinibatchConsumer',
  deadletter: 'MinibatchDeadletter',
  state: 'MinibatchState',
};

const SCHEMAS = {
  stream: StreamSchema,
  buffer: BufferSchema,
  window: WindowSchema,
  consumer: ConsumerSchema,
  deadletter: DeadletterSchema,
  state: StateSchema,
};

/**
 * Set on every collection, whatever the URI of the connection says. Another read preference would miss recent writes, a weaker write
 * concern would lose acknowledged ones, and other BSON options would change the data.
 */
const OPTIONS = {
  readPreference: 'primary',
  readConcern: { level: 'local' },
  promoteValues: true,
  promoteLongs: true,
  useBigInt64: false,
  bsonRegExp: false,
  ignoreUndefined: true,
  serializeFunctions: false,
  checkKeys: false,
  raw: false,
} as const;

/**
 * A majority has the write in its journals, unless the replica set was configured otherwise (`writeConcernMajorityJournalDefault`). Without
 * the timeout, a call would wait indefinitely for a server that can't reach a majority.
 */
const WRITE_CONCERN = { w: 'majority', wtimeoutMS: 30_000 } as const;

const BAD_VALUE = 2;

interface Native {
  readonly stream: mongo.Collection<StreamDocument>;
  readonly buffer: mongo.Collection<BufferDocument>;
  readonly window: mongo.Collection<WindowDocument>;
  readonly consumer: mongo.Collection<ConsumerDocument>;
  readonly deadletter: mongo.Collection<DeadletterDocument>;
  readonly state: mongo.Collection<StateDocument>;
}

/**
 * The models of the store and their native collections. The models are for the application's queries and for the checks at boot. The store
 * itself uses the native collections, without hydrated documents.
 */
export class Collections {
  private db: mongo.Db | undefined;
  private native: Native | undefined;
  private journal = false;

  constructor(
    readonly connection: Connection,
    private readonly names: CollectionNames,
  ) {}

  /** Registers the models. @throws MinibatchError `ModelConflict` */
  register(): void {
    for (const role of Object.keys(SCHEMAS) as Role[]) this.registerModel(role);
    this.refuseSharedCollections();
  }

  /** The application's connection does: `journal=true` in the URI. */
  get wantJournal(): boolean {
    return (this.connection.getClient() as mongo.MongoClient).options.writeConcern?.journal === true;
  }

  /**
   * Makes writes wait for the journal, for a standalone server, which acknowledges `majority` from memory. A server without a journal, such
   * as one for tests, rejects such writes; then nothing changes.
   */
  async useJournal(): Promise<void> {
    this.setJournal(true);
    try {
      await this.stream.deleteOne({ _id: new mongo.ObjectId() });
    } catch (error) {
      this.setJournal(false);
      if (!(error instanceof mongo.MongoServerError && error.code === BAD_VALUE)) throw error;
    }
  }

  get stream(): Native['stream'] {
    return this.current().stream;
  }

  get buffer(): Native['buffer'] {
    return this.current().buffer;
  }

  get window(): Native['window'] {
    return this.current().window;
  }

  get consumer(): Native['consumer'] {
    return this.current().consumer;
  }

  get deadletter(): Native['deadletter'] {
    return this.current().deadletter;
  }

  get state(): Native['state'] {
    return this.current().state;
  }

  get database(): mongo.Db {
    const { db } = this.connection;
    if (db) return db;
    throw new MinibatchError(
      ErrorCode.StoreUnavailable,
      'The Mongoose connection of the store is not open: connect it before the store is used, and close it afterwards',
    );
  }

  /** When the application closes its connection and opens it again, there is a new database object. */
  private current(): Native {
    const db = this.database;
    if (this.native && this.db === db) return this.native;
    const { journal } = this;
    const options = { ...OPTIONS, writeConcern: { ...WRITE_CONCERN, ...(journal && { journal }) } };
    this.db = db;
    this.native = {
      stream: db.collection<StreamDocument>(this.names.stream, options),
      buffer: db.collection<BufferDocument>(this.names.buffer, options),
      window: db.collection<WindowDocument>(this.names.window, options),
      consumer: db.collection<ConsumerDocument>(this.names.consumer, options),
      deadletter: db.collection<DeadletterDocument>(this.names.deadletter, options),
      state: db.collection<StateDocument>(this.names.state, options),
    };
    return this.native;
  }

  private setJournal(journal: boolean): void {
    this.journal = journal;
    this.native = undefined;
  }

  private registerModel(role: Role): void {
    const name = MODEL_NAMES[role];
    const wanted = this.names[role];
    const taken: Model<unknown> | undefined = this.connection.models[name];
    if (taken && roleOf(taken) !== role) {
      throw conflict(
        `The application has a model named '${name}' on the connection of the store; give it another name`,
        { model: name },
      );
    }
    // A copy, because plugins of the connection change the schema.
    const model = taken ?? this.connection.model(name, SCHEMAS[role].clone() as never, wanted);
    if (model.collection.name !== wanted) {
      throw conflict(
        `Model '${name}' uses collection '${model.collection.name}', not '${wanted}': ` +
          'stores on one connection need the same collection names; use a separate connection for each',
        { model: name, collection: model.collection.name, wanted },
      );
    }
  }

  /** The store deletes documents from its collections, so no model of the application may use one of them. */
  private refuseSharedCollections(): void {
    for (const role of Object.keys(SCHEMAS) as Role[]) {
      const collection = this.names[role];
      const models: readonly Model<unknown>[] = Object.values(this.connection.models);
      const other = models.find((model) => model.collection.name === collection && roleOf(model) !== role);
      if (!other) continue;
      throw conflict(
        `Model '${other.modelName}' of the application uses collection '${collection}', which belongs to the store; ` +
          `rename one of them, that of the store by the option collections: { ${role}: '…' }`,
        { model: other.modelName, collection },
      );
    }
  }
}

function roleOf(model: object): unknown {
  const role = Reflect.get(model, 'minibatchRole') as (() => unknown) | undefined;
  return role?.();
}

function conflict(message: string, details: Record<string, unknown>): MinibatchError {
  return new MinibatchError(ErrorCode.ModelConflict, message, { details });
}
