import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import pg from 'pg';
import type { Window } from 'nestjs-minibatch';
import { Options } from './options.js';
import { REPORT_TABLE } from './storage.js';
import { type Report, Results } from './results.sink.js';

/** The reports in a table, upserted by window id. */
@Injectable()
export class PostgresResults extends Results implements OnApplicationShutdown {
  private readonly pool;
  private readonly ready;

  constructor({ databaseUrl }: Options) {
    super();
    this.pool = new pg.Pool({ connectionString: databaseUrl });
    this.ready = this.pool.query(
      `create table if not exists ${REPORT_TABLE} (id text primary key, report jsonb not null)`,
    );
    // Whoever awaits it hears of it.
    this.ready.catch(() => undefined);
  }

  async put(report: Report, window: Window): Promise<void> {
    await this.ready;
    const upsert = `insert into ${REPORT_TABLE} values ($1, $2) on conflict (id) do update set report = excluded.report`;
    await this.pool.query(upsert, [window.id, JSON.stringify(report)]);
  }

  async all(): Promise<readonly Report[]> {
    await this.ready;
    const { rows } = await this.pool.query<{ report: StoredReport }>(`select report from ${REPORT_TABLE}`);
    return rows.map(({ report: { start, end, ...rest } }) => ({
      ...rest,
      ...(start !== undefined && { start: new Date(start) }),
      ...(end !== undefined && { end: new Date(end) }),
    }));
  }

  /** Not in an earlier hook: windows in flight still put their reports. */
  async onApplicationShutdown(): Promise<void> {
    await this.pool.end();
  }
}

type StoredReport = Omit<Report, 'start' | 'end'> & { readonly start?: string; readonly end?: string };
