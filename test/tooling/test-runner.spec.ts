import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import Results from '../../scripts/results.reporter.mjs';
import { linkDependencies, repository, run, temporaryFolder } from '../support/workspace.js';

const CHECKS = { 'check:types': 'true', lint: 'true', 'check:format': 'true', 'check:deps': 'true' };
const test = (name: string, body: string) => `test('${name}', () => { ${body} });\n`;
const file = (...tests: readonly string[]) =>
  `import { describe, test, expect, beforeAll, afterAll } from 'vitest';\n${tests.join('')}`;
const PASSES = file(test('adds', 'expect(1 + 1).toBe(2);'), test('adds more', 'expect(2 + 2).toBe(4);'));
const WAITS = "test('waits', { timeout: 0 }, () => new Promise(() => { setInterval(() => {}, 1000); }));\n";
const CONFIG = "export default { test: { include: ['*.test.mjs'] } };\n";

// Limits under test are of seconds, so that a busy machine does not reach them with what is to go well.
describe('npm test', { timeout: 90_000 }, () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;

  beforeEach(async () => {
    folder = await temporaryFolder();
    await linkDependencies(folder.path);
  });

  afterEach(async () => await folder.dispose());

  /**
   * Runs the script in a small project; resolves with its exit code, its last line, and all it printed. The static checks, each a start of
   * npm, run where `args` is empty.
   */
  async function runTests(
    files: Readonly<Record<string, string>>,
    {
      args = ['.test.mjs'],
      scripts = {},
      ci = '',
      env: more = {},
    }: { args?: readonly string[]; scripts?: Record<string, string>; ci?: string; env?: NodeJS.ProcessEnv } = {},
  ): Promise<{ exitCode: number; closing: string | undefined; output: string }> {
    const manifest = {
      type: 'module',
      scripts: { build: 'true', 'prepare:servers': 'echo a server', ...CHECKS, ...scripts },
    };
    const all = { 'package.json': JSON.stringify(manifest), 'vitest.config.mjs': CONFIG, ...files };
    for (const [name, text] of Object.entries(all)) {
      await mkdir(dirname(join(folder.path, name)), { recursive: true });
      await writeFile(join(folder.path, name), text);
    }
    const env = { CI: ci, NO_COLOR: '1', FORCE_COLOR: undefined, ...more };
    const result = await run(process.execPath, [repository('scripts/test.mjs'), ...args], { cwd: folder.path, env });
    const closing = result.stdout.trimEnd().split('\n').at(-1);
    return { exitCode: result.exitCode, closing, output: result.stdout + result.stderr };
  }

  it('counts the tests and each static check', async () => {
    const { exitCode, closing, output } = await runTests(
      { 'a.test.mjs': PASSES },
      { args: [], env: { NO_COLOR: undefined } },
    );
    expect(output).not.toContain('\u001B');
    expect(output).toMatch(
      /✓ build .*\n {2}servers:\na server\n✓ servers .*\n✓ types .*\n✓ lint .*\n✓ format .*\n✓ deps /,
    );
    expect(closing).toBe('6 passed, 0 failed, 0 skipped');
    expect(exitCode).toBe(0);
  });

  it('shows and counts a static check that fails, and tests all the same', async () => {
    const scripts = { lint: "echo 'a promise floats' && false" };
    const { exitCode, closing, output } = await runTests({ 'a.test.mjs': PASSES }, { args: [], scripts });
    expect(output).toContain('✗ lint: npm run lint exited with 1');
    expect(output).toContain('a promise floats');
    expect(closing).toBe('5 passed, 1 failed, 0 skipped');
    expect(exitCode).toBe(1);
  });

  it('counts a build that fails', async () => {
    const { exitCode, closing } = await runTests({ 'a.test.mjs': PASSES }, { scripts: { build: 'false' } });
    expect(closing).toBe('2 passed, 1 failed, 0 skipped');
    expect(exitCode).toBe(1);
  });

  it('hands arguments to the tests and leaves out the static checks', async () => {
    const files = { 'a.test.mjs': PASSES, 'b.test.mjs': file(test('breaks', 'expect(1).toBe(2);')) };
    const scripts = { 'check:types': 'false' };
    const { exitCode, closing, output } = await runTests(files, { args: ['a.test', '-t', 'more'], scripts });
    expect(output).not.toContain('types');
    expect(closing).toBe('1 passed, 0 failed, 1 skipped');
    expect(exitCode).toBe(0);
  });

  it('counts a test that fails', async () => {
    const files = { 'a.test.mjs': PASSES, 'b.test.mjs': file(test('breaks', 'expect(1).toBe(2);')) };
    const { exitCode, closing } = await runTests(files);
    expect(closing).toBe('2 passed, 1 failed, 0 skipped');
    expect(exitCode).toBe(1);
  });

  it('counts a file that cannot be loaded and one whose hook fails', async () => {
    const files = {
      'a.test.mjs': PASSES,
      'b.test.mjs': "import './there-is-no-such-file.mjs';\n",
      'c.test.mjs': file("beforeAll(() => { throw new Error('no server'); });\n", test('never runs', '')),
    };
    const { exitCode, closing, output } = await runTests(files);
    expect(output).toContain('✗ b.test.mjs failed outside of its tests');
    expect(output).toContain('✗ c.test.mjs failed outside of its tests');
    expect(closing).toBe('2 passed, 2 failed, 1 skipped');
    expect(exitCode).toBe(1);
  });

  it('counts an error that no test caught', async () => {
    const late = "void Promise.reject(new Error('nobody waits for me'));";
    const { exitCode, closing } = await runTests({ 'a.test.mjs': file(test('looks good', late)) });
    expect(closing).toBe('1 passed, 1 failed, 0 skipped');
    expect(exitCode).toBe(1);
  });

  it('has a closing line when Vitest does not come to its first test', async () => {
    const config = "export default { test: { include: ['*.test.mjs'], globalSetup: './setup.mjs' } };\n";
    const setup = 'export default () => process.exit(7);\n';
    const files = { 'a.test.mjs': PASSES, 'vitest.config.mjs': config, 'setup.mjs': setup };
    const { exitCode, closing, output } = await runTests(files);
    expect(output).toContain('✗ Vitest exited with 7 before the last test');
    expect(closing).toBe('0 passed, 1 failed, 0 skipped');
    expect(exitCode).toBe(1);
  });

  it.each([
    { loop: 'for (;;);', what: 'never waits' },
    { loop: 'for (;;) await Promise.resolve();', what: 'waits for promises alone' },
  ])('names a test that $what, ends it and continues with the other files', async ({ loop }) => {
    const setup = JSON.stringify(repository('test/support/stuck-test.mjs'));
    const files = {
      'a.test.mjs': PASSES,
      'b.test.mjs': file(test('adds', ''), `describe('a store', () => { test('ends', async () => { ${loop} }); });\n`),
      'vitest.config.mjs': `export default { test: { include: ['*.test.mjs'], setupFiles: [${setup}] } };\n`,
    };
    const env = { MINIBATCH_STUCK_AFTER: '5' };
    const { exitCode, closing, output } = await runTests(files, { env });
    expect(output).toContain('✗ b.test.mjs > a store > ends is stuck: the event loop has not turned for 5 s');
    expect(closing).toBe('2 passed, 1 failed, 2 skipped');
    expect(exitCode).toBe(1);
  });

  it('names a file that is stuck while it is loaded', async () => {
    const setup = JSON.stringify(repository('test/support/stuck-test.mjs'));
    const files = {
      'a.test.mjs': PASSES,
      'b.test.mjs': 'for (;;);\n',
      'vitest.config.mjs': `export default { test: { include: ['*.test.mjs'], setupFiles: [${setup}] } };\n`,
    };
    const { exitCode, closing, output } = await runTests(files, { env: { MINIBATCH_STUCK_AFTER: '5' } });
    expect(output).toContain('✗ b.test.mjs > (outside of its tests) is stuck');
    expect(output).toMatch(/ at .*b\.test\.mjs:\d/);
    expect(closing).toBe('2 passed, 1 failed, 0 skipped');
    expect(exitCode).toBe(1);
  });

  it('ends a run that takes too long, with all it started, and names what was running', async () => {
    const { exitCode, closing, output } = await runTests(
      { 'b.test.mjs': file(WAITS) },
      { env: { MINIBATCH_TEST_MINUTES: '0.3' } },
    );
    expect(output).toContain('✗ Vitest was not through after 0.3 min and was killed before the last test');
    expect(output).toContain('✗ b.test.mjs > waits was running then');
    expect(closing).toBe('0 passed, 2 failed, 0 skipped');
    expect(exitCode).toBe(1);
  });

  it('counts what has ended when a run is cut, and names what was running', async () => {
    // Kills Vitest as soon as it has recorded the results of the other file, and the start of this one.
    const kills = `
import { existsSync, readFileSync } from 'node:fs';
setInterval(() => {
  const file = process.env.MINIBATCH_RESULTS;
  const results = existsSync(file) ? readFileSync(file, 'utf8') : '';
  if (!results.includes('"file":"a.test.mjs"') || !results.includes('b.test.mjs > waits')) return;
  process.kill(process.ppid, 'SIGKILL');
  process.exit();
}, 50);
`;
    const files = {
      'a.test.mjs': file(test('adds', 'console.log(`process ${process.pid}.`);'), "test.skip('later', () => {});\n"),
      'b.test.mjs': kills + file(WAITS),
      'vitest.config.mjs': CONFIG.replace('test: {', 'test: { maxWorkers: 2,'),
    };
    const { exitCode, closing, output } = await runTests(files);
    expect(output).toMatch(/ a\.test\.mjs .*2 tests/);
    expect(output).toContain('✗ Vitest was ended by SIGKILL before the last test');
    expect(output).toContain('✗ b.test.mjs > waits was running then');
    expect(closing).toBe('1 passed, 2 failed, 1 skipped');
    expect(exitCode).toBe(1);
    // The processes that ran the files have ended, too.
    const [, pid] = /process (\d+)\./.exec(output) ?? [];
    const isAlive = () => process.kill(Number(pid), 0);
    await vi.waitFor(() => expect(isAlive).toThrow('ESRCH'), { timeout: 30_000, interval: 50 });
  });

  describe('on a machine without a server', () => {
    const missing = `import { MissingServerError } from ${JSON.stringify(repository('scripts/servers/missing.mjs'))};\n`;
    const redis = "throw new MissingServerError('Redis', 'brew install redis');";
    const kafka =
      "throw new Error('no broker', { cause: new MissingServerError('Kafka', 'brew install openjdk maven') });";
    const files = {
      'a.test.mjs': PASSES,
      'b.test.mjs': `${missing}${file(test('asks for Redis', redis), test('needs none', ''))}`,
      'c.test.mjs': `${missing}${file(
        `let server; beforeAll(() => { ${kafka} });\n`,
        "afterAll(() => server.stop());\ndescribe('a source', () => { test('polls', ''); });\n",
        test('reads', ''),
      )}`,
      'vitest.config.mjs': `export default { test: { include: ['*.test.mjs'], runner: ${JSON.stringify(repository('test/support/runner.ts'))} } };\n`,
    };

    it('leaves out what needs it, and says how to get it', async () => {
      const { exitCode, closing, output } = await runTests(files);
      expect(output).toContain('- left out: 1 tests, for Redis is missing: brew install redis');
      expect(output).toContain('- left out: 2 tests, for Kafka is missing: brew install openjdk maven');
      expect(output).not.toContain('Cannot read properties');
      expect(closing).toBe('3 passed, 0 failed, 3 skipped');
      expect(exitCode).toBe(0);
    });

    it('fails in CI, without what fails only because nothing was set up', async () => {
      const { exitCode, closing, output } = await runTests(files, { ci: 'true' });
      expect(output).toContain('Kafka is missing: brew install openjdk maven');
      expect(output).not.toContain('Cannot read properties');
      expect(closing).toBe('3 passed, 2 failed, 2 skipped');
      expect(exitCode).toBe(1);
    });
  });

  it('selects the tests that the MongoDB of the run can pass: what differs by server is no test there', async () => {
    const runner = JSON.stringify(repository('test/support/runner.ts'));
    const files = {
      'a.test.mjs': file(
        `describe('redrive', () => { ${test('moves and removes many', 'expect(1).toBe(2);')} });\n`,
        test('is the same everywhere', ''),
      ),
      'vitest.config.mjs': `export default { test: { include: ['*.test.mjs'], runner: ${runner}, provide: { mongoKind: 'secantusdb' } } };\n`,
    };
    expect((await runTests(files, { ci: 'true' })).closing).toBe('1 passed, 0 failed, 0 skipped');
  });

  it('runs the unit tests without a build and without servers', async () => {
    const scripts = { build: 'false', 'prepare:servers': 'false' };
    const only = file(test('is told', "expect(process.env.MINIBATCH_ONLY).toBe('unit');"));
    const unit = await runTests({ 'a.test.mjs': only }, { args: ['--only', 'unit'], scripts });
    expect(unit.closing).toBe('1 passed, 0 failed, 0 skipped');
    expect(unit.exitCode).toBe(0);
    const unknown = await runTests({ 'a.test.mjs': only }, { args: ['--only', 'slow'] });
    expect(unknown.output).toContain('--only takes one of: unit');
    expect(unknown.exitCode).toBe(1);
  });

  it('fails when no test ran', async () => {
    const skipped = { 'a.test.mjs': file("test.skip('later', () => {});\n") };
    const all = await runTests(skipped, { ci: 'true' });
    expect(all.output).toContain('- skipped: a.test.mjs > later');
    expect(all.closing).toBe('0 passed, 1 failed, 1 skipped');
    expect(all.exitCode).toBe(1);
    const none = await runTests({}, { args: ['no-such-file'] });
    expect(none.closing).toBe('0 passed, 1 failed, 0 skipped');
    expect(none.exitCode).toBe(1);
  });
});

describe('the results of a run', () => {
  afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
    vi.unstubAllGlobals();
  });

  it('name what is running when a minute has passed without an end', () => {
    vi.useFakeTimers();
    const log = vi.spyOn(console, 'log').mockReturnValue();
    vi.stubGlobal('process', { ...process, stdout: { isTTY: false } });
    const results = new Results();
    results.onInit();
    vi.advanceTimersByTime(60_000);
    expect(log).not.toHaveBeenCalled();
    const module = {
      id: '1',
      moduleId: repository('test/a.spec.ts'),
      children: { allTests: () => [] },
      state: () => 'passed',
    };
    results.onTestModuleQueued(module as never);
    results.onTestCaseReady({ module, fullName: 'waits' } as never);
    vi.advanceTimersByTime(60_000);
    expect(log.mock.calls).toEqual([['   still running: test/a.spec.ts > waits']]);
    results.onTestModuleEnd(module as never);
    vi.advanceTimersByTime(120_000);
    expect(log).toHaveBeenCalledTimes(1);
  });
});
