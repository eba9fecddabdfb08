import { describe, expect, it } from 'vitest';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { StreamStore } from '../storage/stream-store.interface.js';
import { storeContract, type TestFunctions } from './store-contract.js';
import { type StoreCall, wrapStore } from './wrapped-store.js';

/** More calls than a test of the contract makes of a store that works. */
const MOST_CALLS = 5_000;

/**
 * Runs the contract as a runner without time limits would, over a store whose calls go through `around`.
 * Resolves with what failed: the message by the test's name.
 */
async function runContract(around: (call: StoreCall) => Promise<unknown>): Promise<ReadonlyMap<string, string>> {
  const tests: { readonly name: string; readonly body: () => Promise<void> }[] = [];
  const before: (() => Promise<void>)[] = [];
  const after: (() => Promise<void>)[] = [];
  const path: string[] = [];
  const functions: TestFunctions = {
    describe(name, body) {
      path.push(name);
      body();
      path.pop();
    },
    it: (name, body) => tests.push({ name: [...path.slice(1), name].join(' > '), body }),
    beforeEach: (body) => before.push(body),
    afterEach: (body) => after.push(body),
  };
  let calls = 0;
  storeContract(functions, 'Memory', () => {
    const database = new MemoryDatabase();
    const make = (): StreamStore =>
      wrapStore(new MemoryStreamStore(database), (call) => {
        if ((calls += 1) > MOST_CALLS)
          throw new Error(`more than ${MOST_CALLS} calls: the test does not come to an end`);
        return around(call);
      });
    return { store: make(), another: make, dispose: () => undefined };
  });
  const failures = new Map<string, string>();
  for (const { name, body } of tests) {
    calls = 0;
    try {
      for (const hook of before) await hook();
      await body();
    } catch (error) {
      failures.set(name, error instanceof Error ? error.message : String(error));
    } finally {
      calls = 0;
      for (const hook of after) await hook();
    }
  }
  return failures;
}

describe('storeContract', () => {
  it('passes a store that keeps it', async () => {
    expect(await runContract((call) => call.proceed())).toEqual(new Map());
  });

  it.each<{ what: string; around: (call: StoreCall) => Promise<unknown>; test: string; message: RegExp }>([
    {
      what: 'reads by time from the beginning whatever the cursor',
      around: async (call) => {
        // The wrapper hands the call's own arguments on.
        if (call.method === 'fetchByTime') (call.args as unknown[])[2] = undefined;
        return call.proceed();
      },
      test: 'fetchByTime > resumes after a cursor among messages of the same time',
      message: /fetchByTime does not get past 7 messages in 8 reads/,
    },
    {
      what: 'leaves what was settled where it is',
      around: async (call) => (call.method === 'settle' ? undefined : call.proceed()),
      test: 'commit and settle > interleaves two groups that each take other windows',
      message: /fetch still shows messages after 8 rounds/,
    },
    {
      what: 'reads on from the beginning whatever the id',
      around: async (call) => {
        if (call.method === 'fetch') (call.args as unknown[])[1] = undefined;
        return call.proceed();
      },
      test: 'fetch > reads on after an id, and says whether it ended at its limit',
      message: /deep/,
    },
  ])('fails a store that $what, and comes to its end', async ({ around, test, message }) => {
    const failures = await runContract(around);
    expect(failures.get(test)).toMatch(message);
    expect([...failures.values()].filter((text) => text.includes('does not come to an end'))).toEqual([]);
  });
});
