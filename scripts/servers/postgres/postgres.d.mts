export interface PostgresOptions {
  /** @default a free one */
  port?: number;
  /** Keeps its data in this folder, which is not removed. @default a temporary one */
  dir?: string;
}

export interface PostgresServer {
  /** With the user; database `postgres`. */
  readonly url: string;
  readonly port: number;
  /** For people: program and path. */
  readonly label: string;
  readonly pid: number;
  /** Kills the server as a power cut would; `restart()` brings it back. */
  kill9(): Promise<void>;
  /** Starts it again on the same port with the same data; ends it first if it runs. */
  restart(): Promise<void>;
  /** Ends it and removes its temporary data. */
  stop(): Promise<void>;
}

/**
 * A PostgreSQL cluster of its own with its default durability: a commit is on disk before it is acknowledged. Debian: postgresql, whose
 * programs are not on PATH. Run as root it takes the user `postgres`, because the server refuses root. Dies with this process.
 */
export function startPostgres(options?: PostgresOptions): Promise<PostgresServer>;
