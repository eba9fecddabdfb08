import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ModuleMetadata } from '@nestjs/common';
import { memoryStore, mongooseStore, type StoreChoice } from 'nestjs-minibatch';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { postgresStore } from 'nestjs-minibatch/postgres';
import { openSchema } from '../../support/postgres-server.js';
import { later, mongoose, useDatabase } from './applications.js';

/** What an application has to import to keep its streams in one of the stores. */
export interface Place {
  readonly store: StoreChoice;
  readonly imports: NonNullable<ModuleMetadata['imports']>;
}

/** Each gives an empty place that one application after another may use. */
export const PLACES: readonly (readonly [string, () => Place])[] = [
  [
    'memory',
    () => {
      const store = memoryStore().useFactory();
      return { store: { kind: 'memory', useFactory: () => store }, imports: [] };
    },
  ],
  [
    'LMDB',
    () => {
      const path = mkdtempSync(join(tmpdir(), 'minibatch-place-'));
      later(async () => rmSync(path, { recursive: true, force: true }));
      return { store: lmdbStore({ path }), imports: [] };
    },
  ],
  ['PostgreSQL', () => ({ store: postgresPlace(), imports: [] })],
  ['MongoDB', () => ({ store: mongooseStore(), imports: [mongoose(useDatabase())] })],
];

/** A schema of its own, removed after the test. */
export function postgresPlace(): StoreChoice {
  const { url, schema, dispose } = openSchema();
  later(dispose);
  return postgresStore({ connectionString: url, schema });
}
