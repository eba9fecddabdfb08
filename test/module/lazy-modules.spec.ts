import { Injectable, Module } from '@nestjs/common';
import { LazyModuleLoader } from '@nestjs/core';
import { Test } from '@nestjs/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  ErrorCode,
  MinibatchRunner,
  type Source,
  StatusService,
  Streaming,
  StreamService,
  StreamSource,
  type Window,
} from 'nestjs-minibatch';
import { MinibatchHarness, MinibatchTestingModule } from 'nestjs-minibatch/testing';

const seen: unknown[] = [];
const forwarded: unknown[] = [];

@Injectable()
class Early {
  @Streaming('numbers', { size: 1 })
  take() {}
}

@Injectable()
class Ledger {
  put(result: number) {
    forwarded.push(result);
  }
}

@Injectable()
class Late {
  constructor(readonly streams: StreamService) {}
  @Streaming('numbers', { size: 1, group: 'late', sink: Ledger })
  take({ data }: Window<number>) {
    seen.push(...data);
    return data.length;
  }
}

@Injectable()
@StreamSource('numbers')
class Feed implements Source<number> {
  async stream(stream: { append(data: number): Promise<unknown> }) {
    await stream.append(100);
  }
}

@Module({ providers: [Late, Ledger] })
class LateModule {}

@Module({ providers: [Feed] })
class FeedModule {}

@Module({ providers: [Late, Ledger] })
class TwinModule {}

const apps: { close(): Promise<void> }[] = [];
beforeEach(() => {
  seen.length = 0;
  forwarded.length = 0;
});
afterEach(async () => {
  for (const app of apps.splice(0)) await app.close();
});

async function boot(options = {}) {
  const app = await Test.createTestingModule({
    imports: [MinibatchTestingModule.forRoot(options)],
    providers: [Early],
  }).compile();
  await app.init();
  apps.push(app);
  return { app, harness: app.get(MinibatchHarness), loader: app.get(LazyModuleLoader) };
}

describe('modules that are loaded lazily', () => {
  it('have their consumers found and run, with their sinks', async () => {
    const { app, harness, loader } = await boot();
    await harness.append('numbers', 1);
    await loader.load(() => LateModule);
    await harness.settled();
    await harness.append('numbers', 2);
    expect([seen, forwarded]).toEqual([[2], [1]]);
    const { consumers } = await app.get(StatusService).stream('numbers');
    expect(consumers.map(({ local }) => local?.label).toSorted()).toEqual(['Early.take', 'Late.take']);
    // The same module once more.
    await loader.load(() => LateModule);
    await harness.append('numbers', 3);
    expect(seen).toEqual([2, 3]);
  });

  it('have their sources started', async () => {
    const { app, harness, loader } = await boot();
    await loader.load(() => FeedModule);
    await harness.settled();
    const { sources } = await app.get(StatusService).stream('numbers');
    expect(sources).toMatchObject([{ name: 'Feed', appended: 1 }]);
  });

  it('wait as others do when nothing is started, and keep to the selection', async () => {
    const { app, harness, loader } = await boot({ autoStart: false });
    await loader.load(() => LateModule);
    await harness.append('numbers', 1);
    expect(seen).toEqual([]);
    await app.get(MinibatchRunner).start();
    await harness.append('numbers', 2);
    expect(seen).toEqual([1, 2]);

    const other = await boot({ consumers: ['Early.take'] });
    await other.loader.load(() => LateModule);
    await other.harness.append('numbers', 3);
    expect(seen).toEqual([1, 2]);
  });

  it('are refused if what is in them is wrong', async () => {
    const { loader } = await boot();
    await loader.load(() => LateModule);
    await expect(loader.load(() => TwinModule)).rejects.toMatchObject({ code: ErrorCode.DuplicateGroup });
  });

  it('start nothing after the end', async () => {
    const { app, loader } = await boot();
    await app.close();
    await loader.load(() => LateModule);
    const { streams } = await app.get(StatusService).snapshot();
    expect(streams.flatMap(({ consumers }) => consumers).map(({ local }) => local?.label)).toEqual(['Early.take']);
  });
});
