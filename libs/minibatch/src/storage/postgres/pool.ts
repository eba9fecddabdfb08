/** What the store uses of a client of `pg`. Its own types are in a package that an application may not have installed. */
export interface PostgresClient {
  /** Whether the driver asks for values in their binary format. */
  binary?: boolean | undefined;
  query(query: string | object): Promise<{ readonly rows: unknown[] }>;
  on(event: string, listener: (given?: unknown) => void): unknown;
  off(event: string, listener: (given?: unknown) => void): unknown;
  /** True: the connection is broken and is not used again. */
  release(destroy?: boolean): void;
}

/** What the store uses of a pool of `pg`. */
export interface PostgresPool {
  /** The store reads from it how many connections there are at most. */
  readonly options?: { readonly max?: number | undefined };
  connect(): Promise<PostgresClient>;
  on(event: string, listener: (given?: unknown) => void): unknown;
  off(event: string, listener: (given?: unknown) => void): unknown;
}
