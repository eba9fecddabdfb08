import { Inject, Injectable, Module } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  ErrorCode,
  type Executor,
  type ExecutorConsumer,
  type ExecutorWorker,
  ExecutorUnavailable,
  InlineExecutor,
  memoryStore,
  MinibatchModule,
  MinibatchRunner,
  type MinibatchModuleOptions,
  readOutcome,
  StatusService,
  Streaming,
  StreamService,
  type Window,
  type WindowOutcome,
  type WindowTask,
  WindowWorker,
} from 'nestjs-minibatch';
import { MinibatchHarness, MinibatchTestingModule } from 'nestjs-minibatch/testing';

/** Remembers what it is asked to do. */
class Noting extends InlineExecutor {
  readonly opened: string[][] = [];
  readonly ran: string[] = [];
  readonly closed: number[] = [];
  refusal: Error | undefined;

  constructor(override readonly name = 'noting') {
    super();
  }

  async open(consumers: readonly ExecutorConsumer[]) {
    this.opened.push(consumers.map(({ label }) => label));
    if (this.refusal) throw this.refusal;
  }

  async close(timeout: number) {
    this.closed.push(timeout);
  }

  override run(task: WindowTask) {
    this.ran.push(task.consumer.label);
    return super.run(task);
  }
}

@Injectable()
class Provided extends Noting {
  constructor(@Inject('PLACE') place: string) {
    super(place);
  }
}

const own = new Noting('own');

@Injectable()
class Jobs {
  static readonly done: string[] = [];

  @Streaming('numbers', { size: 1, group: 'by-default' })
  byDefault() {
    Jobs.done.push('byDefault');
  }

  @Streaming('numbers', { size: 1, group: 'inline', executor: 'inline' })
  inline() {
    Jobs.done.push('inline');
  }

  @Streaming('numbers', { size: 1, group: 'own', executor: own })
  own() {
    Jobs.done.push('own');
  }

  @Streaming('numbers', { size: 1, group: 'provided', executor: Provided })
  provided() {
    Jobs.done.push('provided');
  }
}

const apps: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const app of apps.splice(0)) await app.close();
  Jobs.done.length = 0;
  for (const list of [own.opened, own.ran, own.closed]) list.length = 0;
});

async function boot(
  options: MinibatchModuleOptions,
  providers: NonNullable<Parameters<typeof Test.createTestingModule>[0]['providers']>,
) {
  const module = await Test.createTestingModule({
    imports: [MinibatchModule.forRoot({ store: memoryStore(), ...options })],
    providers,
  }).compile();
  const app = module.createNestApplication({ logger: false });
  apps.push(app);
  await app.init();
  return app;
}

const PROVIDERS = [Jobs, Provided, { provide: 'PLACE', useValue: 'provided' }];

describe('the executor of a consumer', () => {
  it('is its own, a provider, or that of the module; each is opened for its consumers, and closed', async () => {
    const byDefault = new Noting('default');
    const app = await boot({ executor: byDefault }, PROVIDERS);
    const provided = app.get(Provided);
    await app.get(StreamService).append('numbers', 1);
    await vi.waitFor(() => expect(Jobs.done.toSorted()).toEqual(['byDefault', 'inline', 'own', 'provided']), 20_000);
    expect(byDefault).toMatchObject({ opened: [['Jobs.byDefault']], ran: ['Jobs.byDefault'], closed: [] });
    expect(own).toMatchObject({ opened: [['Jobs.own']], ran: ['Jobs.own'] });
    expect(provided).toMatchObject({ name: 'provided', opened: [['Jobs.provided']], ran: ['Jobs.provided'] });
    await apps.pop()?.close();
    expect([byDefault, own, provided].map(({ closed }) => closed.length)).toEqual([1, 1, 1]);
  });

  it('can not be reached at the start: the application boots, and its windows wait', async () => {
    const executor = new Noting();
    const away = new ExecutorUnavailable('redis is away');
    executor.refusal = away;
    executor.run = () => Promise.reject(away);
    const app = await boot({ executor }, [OneJob]);
    await app.get(StreamService).append('numbers', 1);
    await vi.waitFor(async () => {
      const { streams, health } = await app.get(StatusService).snapshot();
      expect(streams[0]?.consumers[0]?.local).toMatchObject({
        activity: 'blocked',
        failures: 0,
        blockedExecutor: { executor: 'noting', windows: 1, code: ErrorCode.ExecutorUnavailable },
      });
      expect(health.reasons).toEqual([
        expect.objectContaining({
          what: 'consumer-blocked',
          message: expect.stringMatching(
            /^1 window of OneJob.take can't run since .*executor noting fails.*redis is away/,
          ),
        }),
      ]);
    }, 20_000);
  });

  it('refuses to open: the application does not boot, and other executors are closed', async () => {
    const executor = new Noting();
    executor.refusal = new Error('no such queue');
    await expect(boot({ executor }, [OneJob])).rejects.toThrow('no such queue');
    expect(executor.closed).toEqual([0]);
  });

  it.each([
    [
      'a number',
      3,
      ErrorCode.InvalidOptions,
      /OneJob.take: executor is 3; allowed: 'inline', an object with run\(task\)/,
    ],
    ['null', null, ErrorCode.InvalidOptions, /executor is null/],
    ['a class that nobody provides', Provided, ErrorCode.UnresolvedProvider, /executor Provided can't be injected in/],
    [
      'a provider that is no executor',
      StreamService,
      ErrorCode.UnresolvedProvider,
      /executor StreamService is not an executor/,
    ],
  ])('is refused at boot if it is %s', async (_, executor, code, message) => {
    await expect(boot({}, [jobWith(executor)])).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
  });

  it('is not for functions that are given at run time', async () => {
    const app = await boot({ executor: new Noting() }, []);
    const stream = app.get(StreamService).stream('numbers');
    await expect(stream.consume({ size: 1, executor: own } as never, () => undefined)).rejects.toMatchObject({
      code: ErrorCode.InvalidOptions,
      message: expect.stringContaining('executor is a Noting; allowed: only on @Streaming'),
    });
    await stream.append(1);
    expect(await stream.drain({ size: 1 }, () => undefined)).toMatchObject({ messages: 1 });
  });

  it('has no part in unit tests: the harness runs all in the process', async () => {
    const executor = new Noting();
    const module = await Test.createTestingModule({
      imports: [MinibatchTestingModule.forRoot({ executor })],
      providers: [OneJob],
    }).compile();
    apps.push(module);
    await module.init();
    const harness = module.get(MinibatchHarness);
    await harness.append('numbers', 1);
    expect(harness.results(OneJob, 'take')).toEqual([1]);
    expect(executor).toMatchObject({ opened: [], ran: [] });
  });
});

describe('a process in the role of a worker', () => {
  it('runs methods for others, and nothing of its own: its store is opened when something uses it', async () => {
    const store = memoryStore();
    let opens = 0;
    const counted = {
      ...store,
      useFactory: async () => {
        const made = await store.useFactory();
        const open = made.open.bind(made);
        made.open = () => {
          opens += 1;
          return open();
        };
        return made;
      },
    };
    const module = await Test.createTestingModule({
      imports: [MinibatchModule.forRoot({ store: counted as typeof store, role: 'worker', executor: own })],
      providers: PROVIDERS,
    }).compile();
    const app = module.createNestApplication({ logger: false });
    apps.push(app);
    await app.init();
    await app.get(MinibatchRunner).start();
    expect(opens).toBe(0);
    expect(own.opened).toEqual([]);
    await app.get(StreamService).append('numbers', 1);
    expect(opens).toBe(1);
    expect((await app.get(StatusService).snapshot()).streams[0]?.consumers).toEqual([]);
    expect(() => readOutcome(Uint8Array.of())).toThrow('version none');
    await expect(app.get(WindowWorker).handle(Uint8Array.of())).resolves.toBeInstanceOf(Uint8Array);
  });
});

@Injectable()
class OneJob {
  @Streaming('numbers', { size: 1 })
  take(window: Window) {
    return window.data[0];
  }
}

function jobWith(executor: unknown) {
  @Injectable()
  class OneJob {
    @Streaming('numbers', { size: 1, executor: executor as Executor })
    take() {}
  }
  return OneJob;
}

describe('an executor that brings windows to a process in the role of a worker', () => {
  class Serving extends Noting {
    readonly workers: ExecutorWorker[] = [];
    serveRefusal: Error | undefined;

    async serve(worker: ExecutorWorker) {
      this.workers.push(worker);
      if (this.serveRefusal) throw this.serveRefusal;
    }
  }

  const namesOf = ({ workers }: Serving) => workers.map(({ consumers }) => consumers.map(({ label }) => label));

  it('is told of its consumers when the application starts, calls their methods, reads messages, and is closed', async () => {
    const executor = new Serving();
    const app = await boot({ role: 'worker', executor, shutdownTimeout: 77 }, PROVIDERS);
    // Those with an executor of their own, or inline, are not among them.
    expect(namesOf(executor)).toEqual([['Jobs.byDefault']]);
    expect(executor.opened).toEqual([]);
    const [worker] = executor.workers;
    worker?.consumers[0]?.handler({} as Window);
    expect(Jobs.done).toEqual(['byDefault']);
    const { id } = await app.get(StreamService).append('numbers', 1);
    const key = { stream: 'numbers', group: 'by-default', partition: 0 };
    expect((await worker?.load(key, ['none', id ?? '']))?.map((message) => message.read().data)).toEqual([1]);
    expect(() => readOutcome(Uint8Array.of())).toThrow('version none');
    await expect(worker?.handle(Uint8Array.of())).resolves.toBeInstanceOf(Uint8Array);
    await apps.pop()?.close();
    expect(executor.closed).toEqual([77]);
  });

  it('is told only of those that this process is for', async () => {
    const executor = new Serving();
    await boot({ role: 'worker', executor, consumers: ['numbers/inline'] }, PROVIDERS);
    expect(namesOf(executor)).toEqual([]);
    await boot({ role: 'worker', executor, consumers: ['numbers/by-default'] }, PROVIDERS);
    expect(namesOf(executor)).toEqual([['Jobs.byDefault']]);
  });

  it('waits for the start if that is asked for', async () => {
    const executor = new Serving();
    const app = await boot({ role: 'worker', executor, autoStart: false }, [OneJob]);
    expect(namesOf(executor)).toEqual([]);
    await app.get(MinibatchRunner).start();
    await app.get(MinibatchRunner).start();
    expect(namesOf(executor)).toEqual([['OneJob.take']]);
  });

  it('may be out of reach at the start; anything else ends the boot', async () => {
    const away = new Serving();
    away.serveRefusal = new ExecutorUnavailable('redis is away');
    await boot({ role: 'worker', executor: away }, [OneJob]);
    const broken = new Serving();
    broken.serveRefusal = new Error('no such queue');
    await expect(boot({ role: 'worker', executor: broken }, [OneJob])).rejects.toThrow('no such queue');
    expect(broken.closed).toEqual([0]);
  });

  it('is left alone by a process that holds leases, and by threads, whose process gives them their windows', async () => {
    const executor = new Serving();
    await boot({ executor }, [OneJob]);
    expect(executor).toMatchObject({ workers: [], opened: [['OneJob.take']] });
    const mark = Symbol.for('nestjs-minibatch.worker');
    Reflect.set(globalThis, mark, Promise.resolve());
    try {
      await boot({ role: 'worker', executor }, [OneJob]);
    } finally {
      Reflect.deleteProperty(globalThis, mark);
    }
    expect(executor.workers).toEqual([]);
  });
});

describe('an executor of your own', () => {
  it('takes bytes to a worker in another application, and the answer back', async () => {
    const taken: unknown[] = [];
    @Injectable()
    class Sums {
      @Streaming('orders', { size: 2, executor: 'FAR', sink: { put: (result: unknown) => void taken.push(result) } })
      sum({ data }: Window<{ at: Date; amount: bigint }>) {
        return { first: data[0]?.at, total: data.reduce((sum, { amount }) => sum + amount, 0n) };
      }
    }
    @Module({
      imports: [MinibatchModule.forRoot({ store: memoryStore(), consumers: [] })],
      providers: [Sums, { provide: 'FAR', useValue: own }],
    })
    class WorkerModule {}
    const worker = await Test.createTestingModule({ imports: [WorkerModule] }).compile();
    apps.push(worker);
    await worker.init();
    const far: Executor = {
      name: 'far',
      async run(task): Promise<WindowOutcome> {
        return readOutcome(await worker.get(WindowWorker).handle(task.encode()));
      },
    };
    const app = await boot({}, [Sums, { provide: 'FAR', useValue: far }]);
    const at = new Date(7);
    await app.get(StreamService).appendMany('orders', [
      { at, amount: 1n },
      { at, amount: 2n },
    ]);
    await vi.waitFor(() => expect(taken).toEqual([{ first: at, total: 3n }]), 20_000);
  });
});
