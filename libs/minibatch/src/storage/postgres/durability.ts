import type { Database } from './database.js';
import { statement } from './sql.js';

interface Settings {
  readonly fsync: string;
  readonly commits: string;
  readonly pages: string;
  readonly role: string;
  readonly database: string;
}

const SETTINGS = statement(`select current_setting('fsync') as fsync, current_setting('synchronous_commit') as commits,
  current_setting('full_page_writes') as pages, current_user::text as role, current_database()::text as database`);

/** What is at stake if the server acknowledges what is not on disk yet; as lines for the log. */
export async function durabilityWarnings(database: Database): Promise<readonly string[]> {
  const [settings] = await database.query<Settings>('read the settings', SETTINGS, []);
  return settings ? warningsOf(settings) : [];
}

function warningsOf({ fsync, commits, pages, role, database }: Settings): string[] {
  const warnings: string[] = [];
  if (fsync === 'off') {
    warnings.push(
      'PostgreSQL has fsync = off: if its machine crashes or loses power, the whole database may be damaged, and messages that were ' +
        'acknowledged are lost. Set fsync = on in postgresql.conf and reload it',
    );
  }
  if (commits === 'off') {
    warnings.push(
      `PostgreSQL has synchronous_commit = off for role '${role}' in database '${database}': it acknowledges commits from memory. If it ` +
        'crashes, messages that were acknowledged within the last second are lost, and windows that were committed then may not be done with: ' +
        `they stay open until their consumer restarts. Run: alter role "${role}" in database "${database}" set synchronous_commit = on`,
    );
  }
  if (fsync !== 'off' && pages === 'off') {
    warnings.push(
      'PostgreSQL has full_page_writes = off: a power failure may damage the database unless its disk writes whole pages. Set ' +
        'full_page_writes = on in postgresql.conf and reload it',
    );
  }
  return warnings;
}
