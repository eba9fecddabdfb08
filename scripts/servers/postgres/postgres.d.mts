import type { OwnServer, OwnServerOptions } from '../own-server.mjs';

export interface PostgresOptions extends OwnServerOptions {
  /** False: nothing waits for the disk, for tests that do not cut the power. @default true */
  readonly durable?: boolean;
  /** As in `postgresql.conf`, such as `wal_level=logical`. @default none */
  readonly settings?: readonly string[];
}

/**
 * A PostgreSQL cluster of its own with its default durability: a commit is on disk before it is acknowledged. Debian: postgresql, whose
 * programs are not on PATH. Run as root it takes the user `postgres`, because the server refuses root. Its `url` names the database
 * `postgres`.
 */
export function startPostgres(options?: PostgresOptions): Promise<OwnServer>;

/** Calls `start` again while it rejects because processes of the server before have not ended yet. */
export function startWhenFree<S>(start: () => Promise<S>): Promise<S>;
