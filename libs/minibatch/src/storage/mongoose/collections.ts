import { mongo } from 'mongoose';
import type { Connection, Model } from 'mongoose';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { BufferSchema, type BufferDocument } from './schemas/buffer.schema.js';
import { ConsumerSchema, type ConsumerDocument } from './schemas/consumer.schema.js';
import { DeadletterSchema, type DeadletterDocument } from './schemas/deadletter.schema.js';
import type { Role } from './schemas/schema-options.js';
import { StreamSchema, type StreamDocument } from './schemas/stream.schema.js';
import { WindowSchema, type WindowDocument } from './schemas/window.schema.js';

/** Names of the collections in the database; the defaults are those of the Python library. */
export type CollectionNames = Readonly<Record<Role, string>>;

export const COLLECTION_NAMES: CollectionNames = {
  stream: 'stream',
  buffer: 'buffer',
  window: 'window',
  consumer: 'consumer',
  deadletter: 'deadletter',
};

/** The usual names where no other is given. */
export function collectionNames(given: Partial<CollectionNames> = {}): CollectionNames {
  const roles = Object.keys(COLLECTION_NAMES) as Role[];
  return Object.fromEntries(roles.map((role) => [role, given[role] ?? COLLECTION_NAMES[role]])) as CollectionNames;
}

/** Prefixed, because an application's own `Stream` or `Window` must not become ours. */
export const MODEL_NAMES: CollectionNames = {
  stream: 'MinibatchStream',
  buffer: 'MinibatchBuffer',
  window: 'MinibatchWindow',
  consumer: 'MinibatchConsumer',
  deadletter: 'MinibatchDeadletter',
};

const SCHEMAS = {
  stream: StreamSchema,
  buffer: BufferSchema,
  window: WindowSchema,
  consumer: ConsumerSchema,
  deadletter: DeadletterSchema,
};

/**
 * Set on every collection, whatever the connection's URI says: another read preference would miss what was just written, a
 * smaller write concern would lose what was acknowledged, and other BSON options would change the data.
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

/** A server that can't reach a majority would otherwise let the call wait for ever. */
const WRITE_CONCERN = { w: 'majority', wtimeoutMS: 30_000 } as const;

const BAD_VALUE = 2;

interface Native {
  readonly stream: mongo.Collection<StreamDocument>;
  readonly buffer: mongo.Collection<BufferDocument>;
  readonly window: mongo.Collection<WindowDocument>;
  readonly consumer: mongo.Collection<ConsumerDocument>;
  readonly deadletter: mongo.Collection<DeadletterDocument>;
}

/**
 * The store's models and their native collections. Models are for the application's own queries and for the checks at boot;
 * all work is done on the native collections, without hydrated documents.
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

  /**
   * For a standalone server, where `majority` is an acknowledgement from memory: writes wait for its journal. Servers that
   * have none, as for tests, refuse such a write; then it stays as it was.
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

  get database(): mongo.Db {
    const { db } = this.connection;
    if (db) return db;
    throw new MinibatchError(
      ErrorCode.StoreUnavailable,
      'The Mongoose connection of the store is not open: connect it before the store is used, and close it after',
    );
  }

  /** The application may close its connection and open it again: then there is another database object. */
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
        `The application has a model of its own named '${name}' on the connection of the store; give it another name`,
        { model: name },
      );
    }
    // A copy: plugins of the connection change the schema, and those of one connection are nothing to another.
    const model = taken ?? this.connection.model(name, SCHEMAS[role].clone() as never, wanted);
    if (model.collection.name !== wanted) {
      throw conflict(
        `Model '${name}' lies in collection '${model.collection.name}', not in '${wanted}': ` +
          'two stores on one connection need the same collection names; use a connection for each',
        { model: name, collection: model.collection.name, wanted },
      );
    }
  }

  /** The store deletes from its collections; a model that lies in one of them would lose its documents. */
  private refuseSharedCollections(): void {
    for (const role of Object.keys(SCHEMAS) as Role[]) {
      const collection = this.names[role];
      const models: readonly Model<unknown>[] = Object.values(this.connection.models);
      const other = models.find((model) => model.collection.name === collection && roleOf(model) !== role);
      if (!other) continue;
      throw conflict(
        `Model '${other.modelName}' of the application lies in collection '${collection}', which the store uses for itself; ` +
          `move one of them, the store's by the option collections: { ${role}: '…' }`,
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
