export interface TransactionalServer {
  /** Names no database. */
  readonly uri: string;
  stop(): Promise<void>;
}

/** A small server that has transactions; undefined where the optional package with its binary is not installed. */
export function startTransactionalServer(): Promise<TransactionalServer | undefined>;

/** Its path, if it is installed. */
export function findBinary(): string | undefined;
