import { appendFileSync } from 'node:fs';
import { relative } from 'node:path';
import type { RunnerTask, RunnerTestCase, RunnerTestFile, RunnerTestSuite } from 'vitest';
import { TestRunner } from 'vitest';
import type { MongoKind } from '../../scripts/servers/mongo/mongo.mjs';
import { type MissingServer, missingServer } from '../../scripts/servers/missing.mjs';
import { DIFFERENCES } from './server-differences.js';

type OnCollected = (files: RunnerTestFile[]) => unknown;

/** In CI nothing may go untested. */
const isCi = process.env['CI'] === 'true';

/**
 * Vitest's runner, except that it leaves out what needs a server which this machine cannot have: a test, or a suite with all its tests
 * if one of its hooks asks for the server. In CI they fail.
 *
 * Specs need not say what they need, and what else they test runs. `npm test` counts what was left out by the lines that this writes to
 * the file of MINIBATCH_LEFT_OUT.
 */
export default class LeavesOutWhatIsMissing extends TestRunner {
  #report: OnCollected | undefined;

  /** Vitest sets what reports the tests that were found; those that differ by server are gone before. */
  set onCollected(report: OnCollected) {
    this.#report = report;
  }

  get onCollected(): OnCollected {
    // What is set now: Vitest wraps what it gets here, and sets that.
    const report = this.#report;
    return async (files) => {
      const differences = Object.keys(DIFFERENCES[this.injectValue('mongoKind') as MongoKind] ?? {});
      for (const file of files) leaveOut(file, differences);
      await report?.(files);
    };
  }

  onAfterRetryTask(test: RunnerTestCase): void {
    const missing = whatIsMissing(test);
    if (missing === undefined || test.result === undefined) return;
    Object.assign(test.result, { state: 'skip', note: `${missing.server} is missing`, errors: undefined });
    tell(test.file, missing, 1);
  }

  override async onAfterRunSuite(suite: RunnerTestSuite): Promise<void> {
    const { result } = suite;
    if (result?.errors !== undefined && suite.tasks.every(({ mode }) => mode === 'skip')) {
      const missing = whatIsMissing(suite);
      // A hook failed before the first test. What the hooks after the last one say is only that nothing was set up.
      result.errors = missing === undefined ? result.errors.slice(0, 1) : undefined;
      if (missing !== undefined) {
        result.state = 'skip';
        tell(suite.file, missing, count(suite));
      }
    }
    await super.onAfterRunSuite(suite);
  }
}

/** Removes the tests whose full names end so. */
function leaveOut(suite: RunnerTestSuite, endings: readonly string[]): void {
  if (endings.length === 0) return;
  for (const task of suite.tasks) if (task.type === 'suite') leaveOut(task, endings);
  suite.tasks = suite.tasks.filter((task) =>
    task.type === 'suite' ? task.tasks.length > 0 : !endings.some((ending) => nameOf(task).endsWith(ending)),
  );
}

/** As reports have it. */
function nameOf(task: RunnerTask): string {
  return task.suite === undefined ? task.name : `${nameOf(task.suite)} ${task.name}`;
}

function whatIsMissing({ result }: RunnerTask): MissingServer | undefined {
  if (isCi) return undefined;
  for (const error of result?.errors ?? []) {
    const missing = missingServer(error);
    if (missing !== undefined) return missing;
  }
  return undefined;
}

function count(suite: RunnerTestSuite): number {
  return suite.tasks.reduce((sum, task) => sum + (task.type === 'suite' ? count(task) : 1), 0);
}

function tell(file: RunnerTestFile, { server, how }: MissingServer, tests: number): void {
  const log = process.env['MINIBATCH_LEFT_OUT'];
  const line = { server, how, tests };
  if (log === undefined)
    console.warn(`${relative(process.cwd(), file.filepath)}: ${tests} left out, ${server} is missing: ${how}`);
  else appendFileSync(log, `${JSON.stringify(line)}\n`);
}
