import { beforeEach, inject } from 'vitest';
import type { MongoKind } from '../../scripts/servers/mongo/mongo.mjs';

/** Tests that a server fails by what it does otherwise than MongoDB, by the end of their full names, and what that is. */
const DIFFERENCES: Partial<Record<MongoKind, Readonly<Record<string, string>>>> = {
  secantusdb: {
    'indexes > are used by the reads': 'scans the collection where a condition is `$ne`',
    'streams > lists streams by name, all or those that exist': 'ignores the sort of a find by `$in`',
    'redrive > moves and removes many': 'takes minutes for it',
    'data > keeps an object with $ref and $id in another order what it is, wherever it lies': 'puts `$ref` first',
    'data > keeps a position with $ref and $id in another order': 'puts `$ref` first',
  },
};

beforeEach(({ task, skip }) => {
  const differences = DIFFERENCES[inject('mongoKind') || 'mongod'] ?? {};
  const name = task.fullTestName;
  for (const [test, reason] of Object.entries(differences)) skip(name.endsWith(test), `the server ${reason}`);
});
