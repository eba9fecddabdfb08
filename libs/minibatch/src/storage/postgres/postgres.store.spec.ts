import { afterEach, beforeEach, describe, it } from 'vitest';
import { openSchema } from '../../../../../test/support/postgres-server.js';
import { storeContract } from '../../testing/store-contract.js';

storeContract({ describe, it, beforeEach, afterEach }, 'PostgresStreamStore', () => {
  const schema = openSchema();
  return { store: schema.store(), another: () => schema.store(), dispose: () => schema.dispose() };
});
