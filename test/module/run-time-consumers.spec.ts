import { Injectable, Module } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { afterEach, describe, expect, it } from 'vitest';
import {
  ErrorCode,
  MinibatchRunner,
  type Sink,
  StatusService,
  Streaming,
  StreamService,
  type Window,
} from 'nestjs-minibatch';
import type { StreamStore } from 'nestjs-minibatch/store';
import { MinibatchHarness, MinibatchTestingModule } from 'nestjs-minibatch/testing';

@Injectable()
class Sums implements Sink<number> {
  readonly taken: number[] = [];
  async put(sum: number) {
    this.taken.push(sum);
  }
}

class Decorated {
  readonly windows: unknown[] = [];
  @Streaming('numbers', { size: 1 })
  take(window: Window<unknown>) {
    this.windows.push(...window.data);
  }
}

@Module({ providers: [Sums] })
class SumsModule {}

const apps: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const app of apps.splice(0)) await app.close();
});

async function boot(options = {}, imports: NonNullable<Parameters<typeof Module>[0]['imports']> = [SumsModule]) {
  const app = await Test.createTestingModule({
    imports: [MinibatchTestingModule.forRoot(options), ...imports],
    providers: [Decorated],
  }).compile();
  await app.init();
  apps.push(app);
  const harness = app.get(MinibatchHarness);
  return { app, harness, numbers: app.get(StreamService).stream<number>('numbers') };
}

const sum = ({ data }: Window<number>) => data.reduce((total, each) => total + each, 0);

describe('consumers that an application starts at run time', () => {
  it('find sinks by token, and stand in the status until they stop', async () => {
    const { app, harness, numbers } = await boot();
    const consumer = await numbers.consume({ size: 2, group: 'sums', sink: Sums }, sum);
    await harness.appendMany<number>('numbers', [1, 2, 3]);
    expect(app.get(Sums, { strict: false }).taken).toEqual([3]);
    const consumers = async () => (await app.get(StatusService).stream('numbers')).consumers;
    expect(await consumers()).toContainEqual(
      expect.objectContaining({ group: 'sums', local: expect.objectContaining({ label: "consume of 'numbers'" }) }),
    );
    await consumer.stop();
    expect((await consumers()).find(({ group }) => group === 'sums')).not.toHaveProperty('local');
  });

  it('run though the module starts nothing, or another selection', async () => {
    const { app, harness, numbers } = await boot({ autoStart: false, consumers: [] });
    const taken: number[] = [];
    await numbers.consume({ size: 1, group: 'own' }, ({ data }) => {
      taken.push(...data);
    });
    await harness.append('numbers', 1);
    expect(taken).toEqual([1]);
    await app.get(MinibatchRunner).start();
    await harness.append('numbers', 2);
    expect(taken).toEqual([1, 2]);
    expect(app.get(Decorated).windows).toEqual([]);
  });

  it('leave those with a decorator alone', async () => {
    const { app, harness, numbers } = await boot({ autoStart: false });
    await numbers.drain({ size: 10, group: 'own' }, () => undefined);
    await harness.append('numbers', 1);
    expect(app.get(Decorated).windows).toEqual([]);
    await expect(numbers.consume({ size: 1 }, () => undefined)).rejects.toMatchObject({
      code: ErrorCode.DuplicateGroup,
      message: expect.stringContaining('Decorated.take'),
    });
  });

  it('refuse a token that nobody provides, or more than one', async () => {
    const options = { size: 1, group: 'sums', sink: Sums } as const;
    const unresolved = { code: ErrorCode.UnresolvedProvider };
    const none = await boot({}, []);
    await expect(none.numbers.consume(options, sum)).rejects.toMatchObject(unresolved);
    @Module({ providers: [Sums] })
    class OtherModule {}
    const two = await boot({}, [SumsModule, OtherModule]);
    await expect(two.numbers.consume(options, sum)).rejects.toMatchObject(unresolved);
    // What was refused does not keep the group.
    const consumer = await two.numbers.consume({ ...options, sink: new Sums() }, sum);
    await consumer.stop();
  });

  it('end when the harness restarts, and their groups are free', async () => {
    const { harness, numbers } = await boot({ autoStart: false });
    const [before, after]: number[][] = [[], []];
    const options = { size: 1, group: 'own' };
    const first = await numbers.consume(options, ({ data }) => void before?.push(...data));
    await harness.append('numbers', 1);
    await harness.restart();
    const second = await numbers.consume(options, ({ data }) => void after?.push(...data));
    // It is over: this ends no other, and frees no group of another.
    expect(await first.stop()).toEqual({ drained: 0, abandoned: 0 });
    await expect(numbers.consume(options, () => undefined)).rejects.toMatchObject({ code: ErrorCode.DuplicateGroup });
    await harness.append('numbers', 2);
    await harness.advance('1 minute');
    expect([before, after]).toEqual([[1], [2]]);
    await second.stop();
  });

  it('are not started after the harness has restarted, and their groups are free', async () => {
    const { app, harness, numbers } = await boot({ autoStart: false });
    const store = app.get<StreamStore>('MINIBATCH_STREAM_STORE');
    const { registerGroup } = store;
    let began = (): void => undefined;
    const registering = new Promise<void>((resolve) => (began = resolve));
    store.registerGroup = () => {
      began();
      return new Promise(() => undefined);
    };
    const options = { size: 1, group: 'own' };
    const pending = [
      numbers.consume(options, () => undefined),
      numbers.drain({ ...options, group: 'd' }, () => undefined),
    ];
    const ends = Promise.allSettled(pending);
    await registering;
    await harness.restart();
    store.registerGroup = registerGroup;
    for (const end of await ends) expect(end).toMatchObject({ reason: { code: ErrorCode.ShuttingDown } });
    const taken: number[] = [];
    await numbers.consume(options, ({ data }) => void taken.push(...data));
    await harness.append('numbers', 1);
    expect(taken).toEqual([1]);
  });

  it('end with the application', async () => {
    const { app, numbers } = await boot({ autoStart: false });
    await numbers.consume({ size: 1, group: 'own' }, () => undefined);
    await app.close();
    await expect(numbers.consume({ size: 1, group: 'other' }, () => undefined)).rejects.toMatchObject({
      code: ErrorCode.ShuttingDown,
    });
  });
});
