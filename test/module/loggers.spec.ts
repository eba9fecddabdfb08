import { Injectable, Logger, type LoggerService } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { memoryStore, RejectMessages, type Sink, Streaming, Window } from 'nestjs-minibatch';
import { openStream } from 'nestjs-minibatch/client';
import { MinibatchHarness, MinibatchTestingModule } from 'nestjs-minibatch/testing';
import { afterEach, beforeEach, describe, expect, it, type MockInstance, vi } from 'vitest';

const full = (): never => {
  throw new Error('the disk of the log is full');
};
const throwing: LoggerService = { log: full, warn: full, error: full };

@Injectable()
class Fails implements Sink<readonly number[]> {
  readonly taken: number[] = [];
  failures = 2;
  put(result: readonly number[]) {
    if (this.failures > 0) {
      this.failures -= 1;
      throw new Error('away');
    }
    this.taken.push(...result);
  }
}

@Injectable()
class Numbers {
  @Streaming('numbers', { size: 4, sink: Fails })
  take({ data, messages, attempt }: Window<number>) {
    if (attempt === 1) throw new Error('once');
    const bad = messages.filter((message) => message.data < 0);
    if (bad.length > 0 && messages.length === 1) throw new RejectMessages([{ message: bad[0]!, reason: 'negative' }]);
    if (bad.length > 0) throw new Error('a bad one');
    return data;
  }
}

/** Whatever is logged when something fails: nothing may fail because of it. */
describe('a logger that throws', () => {
  let stderr: MockInstance<typeof process.stderr.write>;
  const written = () => stderr.mock.calls.map(([text]) => String(text)).join('');

  beforeEach(() => {
    stderr = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  });
  afterEach(() => {
    vi.restoreAllMocks();
    Logger.overrideLogger(false);
  });

  it('stops no consumer of an application', async () => {
    const imports = [MinibatchTestingModule.forRoot({ store: memoryStore(), retry: { backoff: '1s', jitter: 0 } })];
    const app = await Test.createTestingModule({ imports, providers: [Numbers, Fails] }).compile();
    // Nest's own lines would end the boot.
    Logger.overrideLogger(throwing);
    vi.spyOn(Logger, 'log').mockImplementation(() => undefined);
    await app.init();
    const harness = app.get(MinibatchHarness);
    await harness.appendMany('numbers', [1, 2, -1, 3]);
    await harness.advance('5 minutes');
    expect(app.get(Fails).taken.toSorted()).toEqual([1, 2, 3]);
    expect(await harness.deadLetters('numbers')).toMatchObject([{ data: -1, error: 'negative' }]);
    expect(written()).toContain('gave up 1 of 4 messages');
    await app.close();
  });

  it('stops neither consumer nor source of a program without Nest, and fails none of its calls', async () => {
    const numbers = await openStream<number>(memoryStore(), 'numbers', { log: throwing });
    const taken: number[] = [];
    let calls = 0;
    let allTaken = (): void => undefined;
    const all = new Promise<void>((resolve) => (allTaken = resolve));
    await numbers.consume({ size: 1, retry: { attempts: 2, backoff: 1 } }, ({ data, attempt }) => {
      calls += 1;
      if (attempt === 1) throw new Error('once');
      taken.push(...data);
      if (taken.length === 3) allTaken();
    });
    let runs = 0;
    const source = numbers.attach(
      {
        async *stream() {
          runs += 1;
          yield runs;
          if (runs < 3) throw new Error('the feed broke off');
        },
      },
      { name: 'feed', retry: { backoff: 1 } },
    );
    await source.finished;
    await all;
    await numbers.disconnect();
    expect([taken, calls]).toEqual([[1, 2, 3], 6]);
    expect(written()).toContain('the feed broke off');
  });
});
