import type { StreamStore } from '../../storage/stream-store.interface.js';

/** What the contract needs of a test runner. */
export interface TestFunctions {
  describe(name: string, body: () => void): unknown;
  it(name: string, body: () => Promise<void>): unknown;
  beforeEach(body: () => Promise<void>): unknown;
  afterEach(body: () => Promise<void>): unknown;
}

/** A store on data of its own. */
export interface StoreUnderTest {
  /** Not opened yet; the contract opens and closes it. */
  readonly store: StreamStore;
  /** A second handle on the same data, as another process would have it; not opened yet. */
  another(): StreamStore | Promise<StreamStore>;
  /** Removes the data; called after the stores have been closed. */
  dispose(): void | Promise<void>;
}

/** The store of the running test. */
export interface ContractContext {
  readonly store: StreamStore;
  /** A second handle, opened. */
  another(): Promise<StreamStore>;
}

/** A store may do without state and effects: then there is nothing to test. */
export function onlyWithState(test: TestFunctions, context: ContractContext): Pick<TestFunctions, 'describe' | 'it'> {
  return {
    describe: (name, body) => test.describe(name, body),
    it: (name, body) => test.it(name, async () => (context.store.readState ? body() : undefined)),
  };
}
