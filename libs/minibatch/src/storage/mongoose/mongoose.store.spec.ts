import type { mongo } from 'mongoose';
import { afterEach, beforeEach, describe, expect, inject, it } from 'vitest';
import { openDatabase } from '../../../../../test/support/mongo-server.js';
import { storeContract } from '../../testing/store-contract.js';
import { MongooseStreamStore } from './mongoose.store.js';

/** Commands that change documents. */
const WRITES = new Set(['insert', 'update', 'delete', 'findAndModify', 'bulkWrite', 'commitTransaction']);

/** The concern of a write, if it says less than that the server may acknowledge it once it can't be lost. */
function weakConcern({ command, commandName }: mongo.CommandStartedEvent): unknown {
  // In a transaction, the commit has the concern.
  if (!WRITES.has(commandName) || command['autocommit'] === false) return undefined;
  const { w, j } = (command['writeConcern'] ?? {}) as { w?: unknown; j?: unknown };
  const isSafe = w === 'majority' && (j === true || inject('mongoSupports').transactions);
  return isSafe ? undefined : { commandName, concern: command['writeConcern'] };
}

storeContract({ describe, it, beforeEach, afterEach }, 'MongooseStreamStore', async () => {
  const database = openDatabase();
  const weak: unknown[] = [];
  const open = async () => {
    const connection = await database.connect({ monitorCommands: true, writeConcern: { w: 1, journal: false } });
    connection.getClient().on('commandStarted', (event) => {
      const concern = weakConcern(event);
      if (concern) weak.push(concern);
    });
    return new MongooseStreamStore(connection);
  };
  const dispose = async () => {
    await database.dispose();
    expect(weak, 'writes that may be acknowledged and lost').toEqual([]);
  };
  return { store: await open(), another: open, dispose };
});
