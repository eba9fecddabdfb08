import { afterEach, beforeEach, describe, it } from 'vitest';
import { openDatabase } from '../../../../../test/support/mongo-server.js';
import { storeContract } from '../../testing/store-contract.js';
import { MongooseStreamStore } from './mongoose.store.js';

storeContract({ describe, it, beforeEach, afterEach }, 'MongooseStreamStore', async () => {
  const database = openDatabase();
  const open = async () => new MongooseStreamStore(await database.connect());
  return { store: await open(), another: open, dispose: () => database.dispose() };
});
