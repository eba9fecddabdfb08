// A reporter of Vitest for scripts/test.mjs: names what is running when the time of the whole run is over. It only says it,
// on stderr and in the file of MINIBATCH_STUCK_LOG; the script ends the run.
import { appendFileSync } from 'node:fs';
import { relative } from 'node:path';

export default class RunningTests {
  /** What each file that runs is doing, by the id of its module. @type {Map<string, string>} */
  #running = new Map();

  onInit() {
    const limit = Number(process.env['MINIBATCH_RUN_LIMIT']);
    if (Number.isFinite(limit)) setTimeout(() => this.#tell(limit), limit).unref();
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
    this.#running.delete(module.id);
  }

  /** @param {import('vitest/node').TestModule} module @param {string} what */
  #note(module, what) {
    this.#running.set(module.id, `${relative(process.cwd(), module.moduleId)} > ${what}`);
  }

  /** @param {number} limit */
  #tell(limit) {
    const running = [...this.#running.values()];
    const minutes = Math.round(limit / 6_000) / 10;
    const lines =
      running.length === 0
        ? [`Vitest is running no test and has not ended after ${minutes} min`]
        : running.map((name) => `${name} was running when the ${minutes} min of the run were over`);
    for (const line of lines) console.error(`✗ ${line}`);
    const log = process.env['MINIBATCH_STUCK_LOG'];
    if (log !== undefined) appendFileSync(log, lines.map((line) => `${line}\n`).join(''));
  }
}
