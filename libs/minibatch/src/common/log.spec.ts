import { afterEach, beforeEach, describe, expect, it, type MockInstance, vi } from 'vitest';
import { type Log, steadyLog } from './log.js';

describe('steadyLog', () => {
  let stderr: MockInstance<typeof process.stderr.write>;
  const written = () => stderr.mock.calls.map(([text]) => text);

  beforeEach(() => {
    stderr = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  });
  afterEach(() => {
    stderr.mockRestore();
  });

  it('passes lines on as they are', () => {
    const lines: unknown[] = [];
    const given = {
      lines,
      log(...line: unknown[]) {
        this.lines.push(['log', ...line]);
      },
      warn(...line: unknown[]) {
        this.lines.push(['warn', ...line]);
      },
      error(...line: unknown[]) {
        this.lines.push(['error', ...line]);
      },
    };
    const log = steadyLog(given);
    log.log('a');
    log.warn('b');
    log.error('c');
    log.error('d', 'stack');
    expect(lines).toEqual([
      ['log', 'a'],
      ['warn', 'b'],
      ['error', 'c'],
      ['error', 'd', 'stack'],
    ]);
    expect(written()).toEqual([]);
  });

  it.each([
    [
      'throws',
      () => {
        throw new Error('full');
      },
    ],
    ['rejects', () => Promise.reject(new Error('full'))],
    ['is none', undefined],
  ])('writes to standard error what a log that %s does not take', async (_how, method) => {
    const log = steadyLog({ log: method, warn: method, error: method } as unknown as Log);
    log.log('a');
    log.warn('b');
    log.error('c', 'stack');
    await Promise.resolve();
    expect(written()).toEqual(['a\n', 'b\n', 'c\n']);
  });
});
