import { describe, expect, it } from 'vitest';
import { SystemClock } from '../common/clock.js';
import { SourceRunner } from '../sources/source-runner.js';
import { DEFAULT_RETRY } from '../definitions/shared.options.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { Process, turns } from './process.spec.support.js';

const never = () => new Promise<never>(() => undefined);

describe('listeners that throw', () => {
  it('of window.closing and window.signal do not end the process', async () => {
    const heard: string[] = [];
    const p = await new Process(new MemoryDatabase())
      .consumer({
        size: 1,
        handler: (window) =>
          new Promise<void>(() => {
            for (const name of ['closing', 'signal'] as const) {
              window[name].addEventListener('abort', () => {
                throw new Error(`planted in ${name}`);
              });
              window[name].addEventListener('abort', () => heard.push(name));
            }
          }),
      })
      .start();
    await p.put(1);
    await turns(() => p.seen.length > 0);
    const stopping = p.engine.stop(1_000);
    await turns(() => heard.length > 0);
    expect(heard).toEqual(['closing']);
    await p.clock.advance(5_000);
    expect(await stopping).toEqual({ drained: 0, abandoned: 1 });
    expect(heard).toEqual(['closing', 'signal']);
    for (const name of heard) expect(p.logged).toContainEqual(expect.stringContaining(`planted in ${name}`));
    expect(p.engine.status()[0]?.lastError?.message).toContain('planted in signal');
  });

  it('of the signal of a source do not either', async () => {
    const logged: string[] = [];
    const log = (line: string) => void logged.push(line);
    const runner = new SourceRunner({
      name: 'feed',
      source: {
        stream: (_target, signal) =>
          new Promise<void>((resolve) => {
            signal.addEventListener('abort', () => {
              throw new Error('planted');
            });
            signal.addEventListener('abort', () => resolve());
          }),
      },
      target: () => ({
        name: 's',
        source: 'feed',
        append: never,
        appendMany: never,
        position: never,
      }),
      clock: new SystemClock(),
      log: { log, warn: log, error: log },
      retry: DEFAULT_RETRY,
    });
    runner.start();
    await runner.detach();
    expect(logged).toEqual([expect.stringContaining('planted')]);
  });
});
