import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import mongoose from 'mongoose';
import pg from 'pg';
import type { Options } from './options.js';

/** Embedded run: folders below the data folder. */
export const FOLDERS = { streams: 'streams', reports: 'reports' } as const;

/** With MongoDB: collections that nobody else uses, so that they can be dropped. */
export const STREAM_COLLECTIONS = {
  stream: 'flights_stream',
  buffer: 'flights_buffer',
  window: 'flights_window',
  consumer: 'flights_consumer',
  deadletter: 'flights_deadletter',
} as const;
export const REPORT_COLLECTION = 'flights_reports';

/** With PostgreSQL: a schema and a table that nobody else uses. */
export const STREAM_SCHEMA = 'flights';
export const REPORT_TABLE = 'flights_reports';

/** Removes all that earlier runs have left. Nothing may be running. */
export async function forget({ mongoUri, databaseUrl, data }: Options): Promise<void> {
  if (databaseUrl) {
    const client = new pg.Client({ connectionString: databaseUrl });
    await client.connect();
    await client.query(`drop schema if exists ${STREAM_SCHEMA} cascade; drop table if exists ${REPORT_TABLE}`);
    await client.end();
    return;
  }
  if (!mongoUri) {
    for (const folder of Object.values(FOLDERS)) await rm(join(data, folder), { recursive: true, force: true });
    return;
  }
  const connection = await mongoose.createConnection(mongoUri).asPromise();
  const ours = new Set<string>([...Object.values(STREAM_COLLECTIONS), REPORT_COLLECTION]);
  const there = (await connection.listCollections()).filter(({ name }) => ours.has(name));
  await Promise.all(there.map(({ name }) => connection.dropCollection(name)));
  await connection.close();
}
