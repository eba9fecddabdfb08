import type { OwnServer, OwnServerOptions } from '../own-server.mjs';

/**
 * A PostgreSQL cluster of its own with its default durability: a commit is on disk before it is acknowledged. Debian: postgresql, whose
 * programs are not on PATH. Run as root it takes the user `postgres`, because the server refuses root. Its `url` names the database
 * `postgres`.
 */
export function startPostgres(options?: OwnServerOptions): Promise<OwnServer>;
