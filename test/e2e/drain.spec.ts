import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { repository } from '../support/workspace.js';

it('a program without Nest drains a stream and ends', { timeout: 90_000 }, async () => {
  const path = await mkdtemp(join(tmpdir(), 'minibatch-drain-'));
  try {
    // Rejects if the program has to be ended.
    const { stdout } = await promisify(execFile)(process.execPath, [repository('test/fixtures/e2e/drain.mjs'), path], {
      timeout: 60_000,
    });
    expect(stdout.split('\n')).toEqual(['window 1,2', 'window 3', 'drained 2 windows, 3 messages', '']);
  } finally {
    await rm(path, { recursive: true });
  }
});
