// Test an application that uses the module
export { MinibatchHarness } from './minibatch.harness.js';
export { MinibatchTestingModule } from './minibatch-testing.module.js';
export type { MinibatchTestingOptions } from './minibatch-testing.module.js';
export type { RecordedRejection, RecordedWindow } from './recording-engine.js';
export type { FailingSink } from './sink-faults.js';
export { VirtualClock } from './virtual-clock.js';

// Test an executor of one's own
export { executorContract } from './executor-contract.js';
export type { ExecutorUnderTest } from './executor-contract.js';
export { executorContractModule } from './executor-contract/handlers.js';

// Test a store of one's own
export { storeContract } from './store-contract.js';
export type { StoreUnderTest, TestFunctions } from './store-contract.js';
export { mortalStore, wrapStore } from './wrapped-store.js';
export type { StoreCall } from './wrapped-store.js';
