import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { repository } from '../support/workspace.js';
import { endProcesses, NodeProcess } from './support/node-process.js';

const APP = repository('test/fixtures/e2e/stubborn-app.mjs');
const ATTEMPT_1 = /^working on 1, attempt 1$/;
const METHOD = /Stubborn\.work: the method with window numbers\/default\/\S+ since \S+/.source;

describe('an application that is told to stop', { timeout: 90_000 }, () => {
  let path: string;
  beforeEach(async () => {
    path = await mkdtemp(join(tmpdir(), 'minibatch-shutdown-'));
  });
  afterEach(async () => {
    await endProcesses();
    await rm(path, { recursive: true });
  });

  const boot = async (shutdownTimeout: string, manner: 'stubborn' | 'polite' = 'stubborn') => {
    const app = new NodeProcess(APP, [path, shutdownTimeout, manner], { env: { NO_COLOR: '1' } });
    await app.line(/^ready$/);
    await app.line(ATTEMPT_1);
    return app;
  };

  it('names the method that does not heed its signal, and ends without it; its window is redelivered', async () => {
    const app = await boot('1s');
    await expect(app.kill('SIGTERM')).resolves.toEqual({ code: null, signal: 'SIGTERM' });
    expect(app.output).toMatch(new RegExp(`stopping, waiting for 1000 ms at most for ${METHOD}`));
    expect(app.output).toMatch(new RegExp(`stopping without waiting any longer for ${METHOD}`));
    expect(app.output).toContain('0 windows drained, 1 abandoned');
    expect(app.lines.filter((line) => line === 'closing' || line === 'signal')).toEqual(['closing', 'signal']);
    // No attempt was counted.
    await boot('1s');
  });

  it('does not wait any longer after a second signal', async () => {
    const app = await boot('10 minutes');
    void app.kill('SIGTERM');
    await app.line(new RegExp(`stopping, waiting for 600000 ms at most for ${METHOD}`));
    // One that comes within a second of the first counts as the same.
    const isHeard = () => app.lines.some((line) => line.includes('SIGTERM while shutting down'));
    await vi.waitUntil(
      () => {
        if (!isHeard()) process.kill(app.pid, 'SIGTERM');
        return isHeard();
      },
      { timeout: 50_000, interval: 100 },
    );
    await expect(app.ended).resolves.toEqual({ code: null, signal: 'SIGTERM' });
    expect(app.output).toContain('0 windows drained, 1 abandoned');
    await boot('1s');
  });

  it('commits a window whose method ends on window.closing', async () => {
    const app = await boot('10 minutes', 'polite');
    await expect(app.kill('SIGTERM')).resolves.toEqual({ code: null, signal: 'SIGTERM' });
    expect(app.output).toContain('1 window drained, 0 abandoned');
    expect(app.lines.filter((line) => line === 'closing' || line === 'signal')).toEqual(['closing']);
  });
});
