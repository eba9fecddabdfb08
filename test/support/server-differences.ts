import { inject } from 'vitest';
import type { MongoKind, MongoSupport } from '../../scripts/servers/mongo/mongo.mjs';

/**
 * Tests that a server fails by what it does otherwise than MongoDB, by the end of their full names, and what that is. They are left out
 * of the run on that server (test/support/runner.ts), and run on the others.
 */
export const DIFFERENCES: Readonly<Partial<Record<MongoKind, Readonly<Record<string, string>>>>> = {
  secantusdb: {
    'indexes are used by the reads in spite of foreign documents': 'scans the collection where a condition is `$ne`',
    'indexes are used by the reads of all messages': 'scans the collection where a condition is `$ne`',
    'indexes by time is read for one partition alone': 'scans the collection where a condition is `$ne`',
    'streams lists streams by name, all or those that exist': 'ignores the sort of a find by `$in`',
    'redrive moves and removes many': 'takes minutes for it',
    'data keeps an object with $ref and $id in another order what it is, wherever it lies': 'puts `$ref` first',
    'data keeps a position with $ref and $id in another order': 'puts `$ref` first',
  },
};

/** What only some servers can show, and why it says nothing of the others. */
const SELECTIONS = {
  transactions: 'a standalone server has none',
  indexes: 'mongo-java-server accepts non-unique indexes and ignores them',
  changeStreams: 'a standalone server has none',
} satisfies Record<keyof MongoSupport, string>;

/** Registers tests where the run's MongoDB can show what they ask for. */
export function whereSupported(feature: keyof typeof SELECTIONS, register: () => void): void {
  if (inject('mongoSupports')[feature]) register();
}

/** Registers tests where the run's MongoDB lacks something: what the module does then. */
export function whereMissing(feature: keyof typeof SELECTIONS, register: () => void): void {
  if (!inject('mongoSupports')[feature]) register();
}
