// A reporter of Vitest for scripts/test.mjs. It writes each result to the file of MINIBATCH_RESULTS as soon as it is known, one JSON
// object a line, so that a run that is cut can still be counted:
//
//   { "id": "…", "running": "a.spec.ts > a test" }   what a file is doing now
//   { "id": "…", "file": "a.spec.ts", "passed": 3, "failed": 1, "skipped": ["…"], "isBroken": false }   a file has ended
//   { "isOver": true }   all files have
//
// Where output is not a terminal, it also says every minute what is running, unless files have ended since.
import { appendFileSync } from 'node:fs';
import { relative } from 'node:path';

const MINUTE = 60_000;

export default class Results {
  /** What each file that runs is doing, by the id of its module. @type {Map<string, string>} */
  #running = new Map();
  /** Modules whose results are written. @type {Set<string>} */
  #ended = new Set();
  #endedBefore = 0;

  onInit() {
    if (!process.stdout.isTTY) setInterval(() => this.#tell(), MINUTE).unref();
  }

  /** @param {import('vitest/node').TestModule} module */
  onTestModuleQueued(module) {
    this.#note(module, '(before its first test)');
  }

  /** @param {import('vitest/node').TestCase} test */
  onTestCaseReady(test) {
    this.#note(test.module, test.fullName);
  }

  /** @param {import('vitest/node').TestCase} test */
  onTestCaseResult(test) {
    this.#note(test.module, `(after ${test.fullName})`);
  }

  /** @param {import('vitest/node').TestModule} module */
  onTestModuleEnd(module) {
    this.#end(module);
  }

  /** @param {readonly import('vitest/node').TestModule[]} modules */
  onTestRunEnd(modules) {
    // The process of a file that is stuck is ended; Vitest says no more of it than this.
    for (const module of modules) if (!this.#ended.has(module.id)) this.#end(module);
    write({ isOver: true });
  }

  /** @param {import('vitest/node').TestModule} module @param {string} what */
  #note(module, what) {
    const running = `${fileOf(module)} > ${what}`;
    this.#running.set(module.id, running);
    write({ id: module.id, running });
  }

  /** @param {import('vitest/node').TestModule} module */
  #end(module) {
    this.#running.delete(module.id);
    this.#ended.add(module.id);
    const tests = [...module.children.allTests()].map((test) => ({ name: test.fullName, state: test.result().state }));
    const failed = tests.filter(({ state }) => state === 'failed').length;
    write({
      id: module.id,
      file: fileOf(module),
      passed: tests.filter(({ state }) => state === 'passed').length,
      failed,
      skipped: tests.filter(({ state }) => state !== 'passed' && state !== 'failed').map(({ name }) => name),
      // It could not be loaded, or a hook of it failed: none of its tests can say so.
      isBroken: module.state() === 'failed' && failed === 0,
    });
  }

  #tell() {
    if (this.#ended.size === this.#endedBefore && this.#running.size > 0) {
      console.log(`   still running: ${[...this.#running.values()].join(', ')}`);
    }
    this.#endedBefore = this.#ended.size;
  }
}

/** @param {import('vitest/node').TestModule} module */
function fileOf(module) {
  return relative(process.cwd(), module.moduleId);
}

/** @param {object} fact */
function write(fact) {
  const file = process.env['MINIBATCH_RESULTS'];
  if (file !== undefined) appendFileSync(file, `${JSON.stringify(fact)}\n`);
}
