import type { Database } from './database.js';
import { createStreams } from './streams.js';

/** Streams that are known to exist; more than this come and go. */
const MOST = 10_000;

/** The streams that this process has seen, so that an append does not have to make sure of them each time. */
export class KnownStreams {
  private readonly names = new Set<string>();

  constructor(private readonly database: Database) {}

  /** Makes those that may not be there. */
  async ensure(names: readonly string[]): Promise<void> {
    const missing = names.filter((name) => !this.names.has(name));
    if (missing.length === 0) return;
    await this.database.session('create a stream', (queries) => createStreams(queries, missing));
    if (this.names.size > MOST) this.names.clear();
    for (const name of missing) this.names.add(name);
  }

  /** They were dropped. */
  forget(names: readonly string[]): void {
    for (const name of names) this.names.delete(name);
  }
}
