import type { StreamStore } from '../storage/stream-store.interface.js';
import { appendContract } from './store-contract/append.js';
import { checkpointContract } from './store-contract/checkpoints.js';
import type { ContractContext, StoreUnderTest, TestFunctions } from './store-contract/context.js';
import { deadLettersContract } from './store-contract/dead-letters.js';
import { groupsContract } from './store-contract/groups.js';
import { leaseContract } from './store-contract/leases.js';
import { manyConsumersContract } from './store-contract/many-consumers.js';
import { partitionsContract } from './store-contract/partitions.js';
import { readContract } from './store-contract/reads.js';
import { recoveryContract } from './store-contract/recovery.js';
import { replayContract } from './store-contract/replay.js';
import { retentionContract } from './store-contract/retention.js';
import { rowWindowsContract } from './store-contract/row-windows.js';
import { settleContract } from './store-contract/settle.js';
import { effectsMeanwhileContract } from './store-contract/effects-meanwhile.js';
import { effectsContract } from './store-contract/effects.js';
import { stateContract } from './store-contract/state.js';
import { statisticsContract } from './store-contract/statistics.js';
import { streamsContract } from './store-contract/streams.js';
import { valuesContract } from './store-contract/values.js';
import { windowsContract } from './store-contract/windows.js';

export type { StoreUnderTest, TestFunctions } from './store-contract/context.js';

const SECTIONS = [
  streamsContract,
  groupsContract,
  partitionsContract,
  appendContract,
  checkpointContract,
  valuesContract,
  readContract,
  leaseContract,
  manyConsumersContract,
  recoveryContract,
  settleContract,
  stateContract,
  effectsContract,
  effectsMeanwhileContract,
  deadLettersContract,
  rowWindowsContract,
  retentionContract,
  windowsContract,
  replayContract,
  statisticsContract,
];

/**
 * The contract of a `StreamStore` as tests; every adapter passes it. It asserts with `node:assert` and takes the test functions
 * of whatever runner there is: vitest, jest, `node:test`.
 *
 * @param makeStore called before each test: a store on data of its own, not opened yet
 * @example
 * ```ts
 * import { afterEach, beforeEach, describe, it } from 'vitest';
 * import { storeContract } from 'nestjs-minibatch/testing';
 *
 * storeContract({ describe, it, beforeEach, afterEach }, 'MyStore', () => {
 *   const database = new MyDatabase();
 *   return {
 *     store: new MyStore(database),
 *     another: () => new MyStore(database),
 *     dispose: () => database.destroy(),
 *   };
 * });
 * ```
 */
export function storeContract(
  test: TestFunctions,
  name: string,
  makeStore: () => StoreUnderTest | Promise<StoreUnderTest>,
): void {
  test.describe(`${name} as StreamStore`, () => {
    let made: StoreUnderTest | undefined;
    let opened: StreamStore[] = [];

    const open = async (store: StreamStore): Promise<StreamStore> => {
      await store.open();
      opened.push(store);
      return store;
    };

    test.beforeEach(async () => {
      made = await makeStore();
      await open(made.store);
    });

    test.afterEach(async () => {
      for (const store of opened) await store.close();
      opened = [];
      await made?.dispose();
      made = undefined;
    });

    const context: ContractContext = {
      get store() {
        if (made === undefined) throw new Error('the contract needs beforeEach to run');
        return made.store;
      },
      async another() {
        if (made === undefined) throw new Error('the contract needs beforeEach to run');
        return open(await made.another());
      },
    };

    for (const section of SECTIONS) section(test, context);
  });
}
