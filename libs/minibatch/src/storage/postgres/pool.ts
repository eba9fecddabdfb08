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

/** What the store uses of a client of its own, beside the pool. */
export interface PostgresProbe extends Pick<PostgresClient, 'query' | 'on'> {
  /** The number of the server's process for it, as the server has told it. */
  readonly processID?: number | null;
  readonly connection?: { readonly stream?: { destroy(): void } };
  connect(): Promise<unknown>;
  end(): Promise<void>;
}

/** What the store uses of a pool of `pg`. */
export interface PostgresPool {
  /** What the pool makes its clients of, with its options. */
  readonly Client?: new (options: object) => PostgresProbe;
  /** The store reads from it how many connections there are at most. */
  readonly options?: { readonly max?: number | undefined };
  connect(): Promise<PostgresClient>;
  on(event: string, listener: (given?: unknown) => void): unknown;
  off(event: string, listener: (given?: unknown) => void): unknown;
}
