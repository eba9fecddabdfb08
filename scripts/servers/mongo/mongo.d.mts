export interface MongoOptions {
  /** What was acknowledged survives `kill9()`. Never the server of MONGODB_URI, which is not ours to kill. */
  durable?: boolean;
  /** Change streams are wanted. */
  oplog?: boolean;
  /** A separate server on this port. */
  port?: number;
  /** A separate server that keeps its data in this folder, which is not removed. */
  dir?: string;
}

/** What the server can do, so that a test can say what it could not show. */
export interface MongoSupport {
  readonly transactions: boolean;
  readonly changeStreams: boolean;
  /** Non-unique indexes are used, and `explain` says so. */
  readonly indexes: boolean;
}

export type MongoKind = 'uri' | 'mongod' | 'mongodb-memory-server' | 'mongo-java-server' | 'secantusdb';

export interface MongoServer {
  /** Names no database. */
  readonly uri: string;
  readonly kind: MongoKind;
  /** For people: kind and version or path. */
  readonly label: string;
  /** Undefined for the server of MONGODB_URI. */
  readonly pid: number | undefined;
  readonly supports: MongoSupport;
  /** Kills the server as a power cut would; `restart()` brings it back. */
  kill9(): Promise<void>;
  /** Starts it again on the same port with the same data (none if it is in memory); ends it first if it runs. */
  restart(): Promise<void>;
  /** Ends it and removes its temporary data. */
  stop(): Promise<void>;
}

/**
 * MongoDB for tests and benchmarks: the first of MONGODB_URI, a mongod (MONGOMS_SYSTEM_BINARY, PATH, mongodb-memory-server's
 * download), mongo-java-server. What it starts dies with this process.
 */
export function startMongo(options?: MongoOptions): Promise<MongoServer>;

/**
 * A replica set of one member, with transactions, change streams and fail points (`configureFailPoint`): a mongod as above, or
 * SecantusDB. Always a separate server, which may be killed.
 */
export function startReplicaSet(options?: Omit<MongoOptions, 'oplog'>): Promise<MongoServer>;

/** Finds or installs what `startMongo()` starts; resolves with its name for people. */
export function prepareMongo(): Promise<string>;

/** Finds or installs what `startReplicaSet()` starts; resolves with its name for people. */
export function prepareReplicaSet(): Promise<string>;
