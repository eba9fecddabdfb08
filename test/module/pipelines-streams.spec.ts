import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Test, type TestingModule } from '@nestjs/testing';
import { defineStream, memoryStore, MinibatchModule, StatusService, Streaming, StreamService } from 'nestjs-minibatch';
import { from, Pipeline } from 'nestjs-minibatch/flow';
import { MinibatchHarness, MinibatchTestingModule, type MinibatchTestingOptions } from 'nestjs-minibatch/testing';
import { afterEach, describe, expect, it } from 'vitest';

const In = defineStream<number>('in');
const Divided = defineStream<number>('divided', { partitions: 2 });
const Out = defineStream<number>('out');
const Parts = defineStream<number>('parts', { partitions: 3 });
const Small = defineStream<number>('small', { maxBuffered: 5 });
const Own = defineStream<number>('own', { maxBuffered: 3 });

@Injectable()
class Copies {
  @Pipeline('copies')
  run() {
    return from(In).to(Out);
  }
}

@Injectable()
class ToParts {
  @Pipeline('to-parts')
  run() {
    const keyed = from(Divided).to(Parts, { key: (n) => `k${n % 4}` });
    return [keyed, from(Divided).to(Out)];
  }
}

@Injectable()
class Odd {
  @Pipeline('odd')
  run() {
    return from(In).to(Out, { key: (n) => (n === 2 ? (5 as unknown as string) : undefined) });
  }
}

@Injectable()
class ToSmall {
  @Pipeline('to-small')
  run() {
    return from(In).to(Small, { batch: { size: 4 } });
  }
}

@Injectable()
class Reader {
  readonly seen: number[] = [];
  @Streaming(Small, { size: 1, interval: '1s' })
  read({ data }: { readonly data: readonly number[] }) {
    this.seen.push(...data);
  }
}

/** Counts how many messages are in its function at a time. */
@Injectable()
class Slow {
  now = 0;
  most = 0;
  readonly waiting: (() => void)[] = [];
  @Pipeline('slow')
  run() {
    return from(In)
      .branch({ even: async (n) => Promise.resolve(n % 2 === 0) })
      .even.flatMap(async (n) => {
        this.now += 1;
        this.most = Math.max(this.most, this.now);
        await new Promise<void>((resolve) => this.waiting.push(resolve));
        this.now -= 1;
        return [n, -n];
      })
      .to(Out, { concurrency: 3 });
  }
}

@Injectable()
class Itself {
  @Pipeline('itself')
  run() {
    return from(In)
      .filter((n) => n > 0)
      .map((n) => n - 1)
      .to(In);
  }
}

@Injectable()
class ItselfFull {
  @Pipeline('itself-full')
  run() {
    return from(Own)
      .flatMap((n) => (n > 0 ? [n - 1, n - 1] : []))
      .to(Own);
  }
}

let app: TestingModule;
afterEach(() => app?.close());

async function start(...providers: (new (...args: never[]) => object)[]) {
  return startWith({}, ...providers);
}

async function startWith(options: MinibatchTestingOptions, ...providers: (new (...args: never[]) => object)[]) {
  const imports = [MinibatchTestingModule.forRoot({ retry: { backoff: '1s', jitter: 0 }, ...options })];
  app = await Test.createTestingModule({ imports, providers }).compile();
  await app.init();
  return { harness: app.get(MinibatchHarness), streams: app.get(StreamService) };
}

describe('the streams of a pipeline', () => {
  it('are worked on by partition, and get each key in one partition, as by append', async () => {
    const { harness, streams } = await start(ToParts);
    const numbers = Array.from({ length: 40 }, (_, index) => index);
    await harness.appendMany(Divided, numbers, { each: (n) => ({ key: String(n) }) });
    await harness.appendMany(Parts, [100, 101, 102, 103], { each: (n) => ({ key: `k${n % 4}` }) });
    await harness.advance('1s');
    expect(harness.status().filter(({ key }) => key.stream === 'divided')).toHaveLength(2);
    const partitions = new Map<string, Set<number>>();
    const all = { size: 100, interval: '1s' } as const;
    const reader = await streams.stream(Parts).consume(all, ({ messages, partition }) => {
      for (const { key = '' } of messages) partitions.set(key, (partitions.get(key) ?? new Set()).add(partition));
    });
    await harness.advance('5s');
    await reader.stop();
    expect([...partitions.values()].map(({ size }) => size)).toEqual([1, 1, 1, 1]);
    expect(new Set([...partitions.values()].flatMap((found) => [...found])).size).toBeGreaterThan(1);
    // Two flows from one stream are one consumer of it.
    expect(harness.outputs(Out).toSorted((a, b) => a - b)).toEqual(numbers);
  });

  it('make it wait while they are full, and lose nothing', async () => {
    const { harness, streams } = await startWith({ clock: 'system' }, ToSmall, Reader);
    const numbers = Array.from({ length: 12 }, (_, index) => index);
    await streams.stream(Small).append(-1);
    await streams.stream(Small).pause();
    await streams.appendMany(In, numbers);
    // The first batch makes it full, and the second one waits.
    await harness.waitForWindow(ToSmall, 'run');
    await streams.stream(Small).resume();
    await harness.waitForWindow(ToSmall, 'run', 3);
    await harness.waitForWindow(Reader, 'read', 13);
    expect(app.get(Reader).seen).toEqual([-1, ...numbers]);
    expect(await harness.deadLetters(In)).toEqual([]);
  });

  it('make it try again while they are closed', async () => {
    const { harness, streams } = await start(Copies);
    await harness.append(Out, 0);
    await streams.stream(Out).close();
    await harness.append(In, 1);
    await harness.advance('1 minute');
    expect(harness.outputs(Out)).toEqual([]);
    expect(harness.status()).toMatchObject([{ activity: 'retrying', lastError: { code: 'MINIBATCH_STREAM_CLOSED' } }]);
    expect(await harness.deadLetters(In)).toEqual([]);
  });

  it('may be its own source', async () => {
    const { harness } = await start(Itself);
    await harness.append(In, 3);
    await harness.advance('5s');
    expect(harness.outputs(In)).toEqual([2, 1, 0]);
  });
});

describe('a source that a pipeline appends to', () => {
  it('is not waited for while it is full: only the pipeline makes room there', async () => {
    const { harness, streams } = await start(ItselfFull);
    await harness.appendMany(Own, [2, 2, 2, 2]);
    await harness.advance('1 minute');
    expect(harness.outputs(Own).toSorted()).toEqual([...Array(16).fill(0), ...Array(8).fill(1)]);
    expect((await streams.stream(Own).stats()).buffered).toBe(0);
  });
});

describe('the messages of a pipeline', () => {
  it('keep their order, however many are in asynchronous functions', async () => {
    const { harness } = await start(Slow);
    const slow = app.get(Slow);
    const appended = harness.appendMany(
      In,
      Array.from({ length: 12 }, (_, index) => index),
    );
    const advanced = harness.advance('1s');
    for (let done = 0; done < 6; done += 1) {
      while (slow.waiting.length === 0) await new Promise(setImmediate);
      // The last one that came is the first to be done.
      slow.waiting.pop()?.();
    }
    await Promise.all([appended, advanced]);
    await harness.settled();
    expect(harness.outputs(Out)).toEqual([0, 2, 4, 6, 8, 10].flatMap((n) => [n, -n]));
    expect(slow.most).toBe(3);
  });

  it('are given up for a key that is no text', async () => {
    const { harness } = await start(Odd);
    await harness.appendMany(In, [1, 2, 3]);
    await harness.advance('1s');
    expect(harness.outputs(Out)).toEqual([1, 3]);
    expect((await harness.deadLetters(In)).map(({ data, error }) => [data, error])).toEqual([
      [2, "append to 'out': key is 5; allowed: a string [MINIBATCH_NOT_STORABLE]"],
    ]);
  });
});

describe('a process', () => {
  it('runs a pipeline if it is selected, by its method, and says so otherwise', async () => {
    const lines: string[] = [];
    const boot = async (consumers: string[]) => {
      @Module({ imports: [MinibatchModule.forRoot({ store: memoryStore(), consumers })], providers: [Copies, Odd] })
      class AppModule {}
      const logger = { log: (line: string) => void lines.push(line), warn() {}, error() {} };
      const application = await NestFactory.createApplicationContext(AppModule, { logger, abortOnError: false });
      const { streams } = await application.get(StatusService).snapshot();
      await application.close();
      return streams.flatMap(({ consumers: found }) => found.map(({ group, local }) => [group, local?.label]));
    };
    expect(await boot(['Copies.run'])).toEqual([['copies', 'Copies.run']]);
    expect(lines).toContain("'in' → Odd.run: does not run in this process");
    expect(await boot(['in/odd'])).toEqual([['odd', 'Odd.run']]);
  });

  it('runs none in the role of a worker, and says so', async () => {
    const lines: string[] = [];
    @Module({ imports: [MinibatchModule.forRoot({ store: memoryStore(), role: 'worker' })], providers: [Copies] })
    class AppModule {}
    const logger = { log: (line: string) => void lines.push(line), warn() {}, error() {} };
    const application = await NestFactory.createApplicationContext(AppModule, { logger, abortOnError: false });
    await application.close();
    expect(lines).toContain(
      "'in' → Copies.run: does not run in this process: a pipeline runs in the process that holds its lease, and the role of this one is worker",
    );
  });

  it('refuses a store that cannot append in a commit, and says what it lacks', async () => {
    const store = await memoryStore().useFactory();
    Object.defineProperty(store, 'readState', { value: undefined });
    @Module({ imports: [MinibatchModule.forRoot({ store })], providers: [Copies] })
    class AppModule {}
    const module = await Test.createTestingModule({ imports: [AppModule] }).compile();
    await expect(module.init()).rejects.toMatchObject({
      code: 'MINIBATCH_STORE_UNSUPPORTED',
      message: expect.stringContaining(
        "Copies.run: the pipeline 'copies' needs a store that appends messages in the commit of a window, and memory does not: all stores of this package do",
      ),
    });
  });
});
