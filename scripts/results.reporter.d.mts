import type { Reporter, TestCase, TestModule } from 'vitest/node';

/** Records results as they come, for scripts/test.mjs. */
export default class Results implements Reporter {
  onInit(): void;
  onTestModuleQueued(module: TestModule): void;
  onTestCaseReady(test: TestCase): void;
  onTestCaseResult(test: TestCase): void;
  onTestModuleEnd(module: TestModule): void;
  onTestRunEnd(modules: readonly TestModule[]): void;
}
