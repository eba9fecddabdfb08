import 'reflect-metadata';
import { Inject, Injectable, Module, type ModuleMetadata } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { afterEach, describe, expect, it } from 'vitest';
import { Streaming } from './consumers/streaming.decorator.js';
import { ErrorCode } from './errors/minibatch.error.js';
import { MinibatchModule } from './minibatch.module.js';
import type { MinibatchModuleAsyncOptions } from './minibatch.module-definition.js';
import type { MinibatchModuleOptions } from './minibatch.options.js';
import type { Source } from './sources/source.interface.js';
import { Pipeline } from './pipelines/pipeline.decorator.js';
import { StreamSource } from './sources/stream-source.decorator.js';
import { memoryStore } from './storage/memory/index.js';
import { InjectStream } from './streams/inject-stream.decorator.js';
import { Stream } from './streams/stream.js';
import { StreamService } from './streams/stream.service.js';
import { WindowEmitter } from './windows/window-emitter.js';

const closing: (() => Promise<void>)[] = [];

async function start(metadata: ModuleMetadata) {
  const app = await Test.createTestingModule(metadata).compile();
  closing.push(() => app.close());
  await app.init();
  return app;
}

const root = () => MinibatchModule.forRoot({ store: memoryStore() });

afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

describe('a constructor whose parameters Nest does not know', () => {
  @Injectable()
  class Ledger {}

  it('stops the boot: of a consumer', async () => {
    class Report {
      constructor(readonly ledger: Ledger) {}
      @Streaming('flights', { size: 1 })
      summarize() {}
    }
    await expect(start({ imports: [root()], providers: [Ledger, Report] })).rejects.toMatchObject({
      code: ErrorCode.NotInjectable,
      message: expect.stringMatching(
        /^Report\.summarize: the constructor of Report takes 1 parameter, and Nest knows none of them.*@Injectable\(\)/,
      ) as string,
    });
  });

  it('stops the boot: of a subclass that takes more than its base class', async () => {
    @Injectable()
    class Base {
      constructor(readonly ledger: Ledger) {}
    }
    class Report extends Base {
      constructor(
        ledger: Ledger,
        readonly second: Ledger,
      ) {
        super(ledger);
      }
      @Streaming('flights', { size: 1 })
      summarize() {}
    }
    await expect(start({ imports: [root()], providers: [Ledger, Report] })).rejects.toMatchObject({
      code: ErrorCode.NotInjectable,
      message: expect.stringContaining('takes 2 parameters, and Nest knows only 1 of them') as string,
    });
  });

  it('stops the boot: of a class that the compiler left no types of', async () => {
    class Report {
      constructor(readonly ledger: Ledger) {}
      @Streaming('flights', { size: 1 })
      summarize() {}
    }
    // What esbuild makes of a decorated class: the decorator runs, and nothing else.
    Injectable()(Report);
    await expect(start({ imports: [root()], providers: [Ledger, Report] })).rejects.toMatchObject({
      code: ErrorCode.NotInjectable,
      message: expect.stringContaining('the compiler left no types of parameters: set emitDecoratorMetadata') as string,
    });
  });

  it('stops the boot: of a source', async () => {
    class Feed implements Source {
      constructor(readonly ledger: Ledger) {}
      async *stream() {}
    }
    StreamSource('flights')(Feed);
    await expect(start({ imports: [root()], providers: [Ledger, Feed] })).rejects.toMatchObject({
      code: ErrorCode.NotInjectable,
      message: expect.stringContaining('Feed: the constructor of Feed takes 1 parameter') as string,
    });
  });

  it('stops the boot: of a sink and of an emitter', async () => {
    class Reports {
      constructor(readonly ledger: Ledger) {}
      put() {}
    }
    class Odd extends WindowEmitter {
      constructor(readonly ledger: Ledger) {
        super();
      }
      override windowReady() {
        return true;
      }
      override query() {
        return { take: [] };
      }
    }
    class ToSink {
      @Streaming('flights', { size: 1, sink: Reports })
      summarize() {}
    }
    class ByEmitter {
      @Streaming('flights', { emitter: Odd })
      summarize() {}
    }
    for (const [type, name] of [
      [ToSink, 'Reports'],
      [ByEmitter, 'Odd'],
    ] as const) {
      await expect(start({ imports: [root()], providers: [Ledger, Reports, type] })).rejects.toMatchObject({
        code: ErrorCode.NotInjectable,
        message: expect.stringContaining(
          `${type.name}.summarize: the constructor of ${name} takes 1 parameter`,
        ) as string,
      });
    }
  });

  it('is none: with default values, by a factory or a value, with @Inject(), as a subclass of the same parameters', async () => {
    class Defaults {
      constructor(readonly size = 1) {}
      @Streaming('defaults', { size: 1 })
      summarize() {}
    }
    class Made {
      constructor(readonly name: string) {}
      @Streaming('made', { size: 1 })
      summarize() {}
    }
    class Given extends Made {
      @Streaming('given', { size: 1 })
      override summarize() {}
    }
    class Named {
      constructor(@Inject(Ledger) readonly ledger: unknown) {}
      @Streaming('named', { size: 1 })
      summarize() {}
    }
    class Sub extends Named {
      constructor(ledger: unknown) {
        super(ledger);
      }
      @Streaming('sub', { size: 1 })
      override summarize() {}
    }
    const providers = [
      Ledger,
      Defaults,
      Named,
      Sub,
      { provide: Made, useFactory: () => new Made('made') },
      { provide: Given, useValue: new Given('given') },
    ];
    const app = await start({ imports: [root()], providers });
    expect(app.get(Sub).ledger).toBe(app.get(Ledger));
  });
});

describe('what @Streaming stands on', () => {
  const used = (target: object, key: unknown, descriptor?: PropertyDescriptor) => () =>
    (Streaming('flights', { size: 1 }) as (target: object, key: unknown, descriptor?: PropertyDescriptor) => void)(
      target,
      key,
      descriptor,
    );
  class Report {
    static summarize() {}
    get total() {
      return () => 1;
    }
  }

  it.each<[string, () => void, string]>([
    ['a static method', used(Report, 'summarize', {}), 'Report.summarize: @Streaming works on methods of instances'],
    ['a symbol', used(Report.prototype, Symbol('x'), {}), 'Report.Symbol(x): @Streaming works on methods of instances'],
    ['a property', used(Report.prototype, 'handler'), 'Report.handler: @Streaming works on methods, not on properties'],
    [
      'an accessor',
      used(Report.prototype, 'total', Object.getOwnPropertyDescriptor(Report.prototype, 'total')),
      'Report.total: @Streaming works on methods, not on properties or accessors',
    ],
    [
      'a method of another kind of decorators, private or not',
      used(() => 1, { kind: 'method', name: '#summarize', private: true }),
      '#summarize: @Streaming was compiled as a standard decorator, and Nest needs the other kind: set experimentalDecorators',
    ],
  ])('can’t be %s', (_, use, message) => {
    expect(use).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions, message: expect.stringContaining(message) }),
    );
  });
});

describe('a decorator without its parentheses', () => {
  class Report {
    summarize() {}
  }
  const descriptor = Object.getOwnPropertyDescriptor(Report.prototype, 'summarize');
  const bare =
    (decorator: unknown, ...given: readonly unknown[]) =>
    () =>
      (decorator as (...given: readonly unknown[]) => void)(...given);

  it.each<[string, () => void, string]>([
    [
      '@Streaming',
      bare(Streaming, Report.prototype, 'summarize', descriptor),
      "Report.summarize: @Streaming needs parentheses: write @Streaming('stream', { size: 100 })",
    ],
    [
      '@Streaming, compiled as a standard decorator',
      bare(Streaming, Report.prototype.summarize, { kind: 'method', name: 'summarize' }),
      "summarize: @Streaming needs parentheses: write @Streaming('stream', { size: 100 })",
    ],
    [
      '@Pipeline',
      bare(Pipeline, Report.prototype, 'summarize', descriptor),
      "Report.summarize: @Pipeline needs parentheses: write @Pipeline('name')",
    ],
    [
      '@StreamSource',
      bare(StreamSource, Report),
      "Report: @StreamSource needs parentheses: write @StreamSource('stream')",
    ],
  ])('is told of: %s', (_, use, message) => {
    expect(use).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions, message: expect.stringContaining(message) }),
    );
  });
});

describe('a strategy of another copy of the package', () => {
  it('is refused by that name, and a class that only looks like a strategy by another', async () => {
    // As the other copy's file would be loaded: the same methods, and another class.
    const methods = Object.getOwnPropertyNames(WindowEmitter.prototype).filter((name) => name !== 'constructor');
    class Other {}
    for (const name of [...methods, 'windowReady', 'query'])
      Object.defineProperty(Other.prototype, name, { value: () => [] });
    class Plain {
      windowReady() {}
      query() {}
    }
    const using = (emitter: unknown) => {
      class Report {
        @Streaming('flights', { emitter: emitter as never })
        summarize() {}
      }
      return start({ imports: [root()], providers: [Report] });
    };
    const hint = 'one of another copy of nestjs-minibatch: install one copy only, npm ls nestjs-minibatch shows them';
    await expect(using(Other)).rejects.toMatchObject({
      code: ErrorCode.InvalidOptions,
      message: expect.stringContaining(hint) as string,
    });
    await expect(using(Plain)).rejects.toThrow(/emitter is Plain; allowed: a subclass of WindowEmitter [^,]*$/);
  });
});

describe('options that are none', () => {
  it.each([undefined, null, false])('stop the boot, if a factory returns them: %s', async (value) => {
    const useFactory = () => Promise.resolve(value as never);
    await expect(
      start({ imports: [MinibatchModule.forRootAsync({ store: memoryStore(), useFactory })] }),
    ).rejects.toMatchObject({
      code: ErrorCode.InvalidOptions,
      message: expect.stringContaining(
        `the factory of forRootAsync returned ${String(value)}, and no options: let it return an object, {} for the defaults`,
      ) as string,
    });
  });

  it('name forRoot, if the module is imported without it', async () => {
    await expect(start({ imports: [MinibatchModule] })).rejects.toThrow(
      /"MinibatchModule\.forRoot\(…\)" at index \[0\] is available in the MinibatchModule/,
    );
  });
});

describe('a store that is none', () => {
  it.each([null, 5, 'memory', {}])('is refused, and does not mean the default: %j', (value) => {
    const refused = expect.objectContaining({
      code: ErrorCode.InvalidOptions,
      details: expect.objectContaining({ option: 'store' }) as unknown,
    }) as Error;
    expect(() => MinibatchModule.forRoot({ store: value as never })).toThrow(refused);
    expect(() => MinibatchModule.forRootAsync({ store: value as never, useFactory: () => ({}) })).toThrow(refused);
  });
});

describe('a factory that returns what shapes the module', () => {
  it('does not compile', () => {
    const returning = (useFactory: MinibatchModuleAsyncOptions['useFactory']) => useFactory;
    returning(() => ({ autoStart: false }));
    // @ts-expect-error -- the store stands next to the factory
    returning(() => ({ autoStart: false, store: memoryStore() }));
    // @ts-expect-error -- so does the name of the connection
    returning(async () => ({ autoStart: false, connectionName: 'second' }));
  });

  it.each([
    ['store', memoryStore()],
    ['connectionName', 'second'],
    ['isGlobal', false],
    ['statusController', true],
  ])('stops the boot, whichever store there is: %s', async (option, value) => {
    const useFactory = () => ({ [option]: value }) as MinibatchModuleOptions;
    for (const store of [undefined, memoryStore()]) {
      const module = MinibatchModule.forRootAsync({ useFactory, ...(store && { store }) });
      await expect(start({ imports: [module] })).rejects.toMatchObject({
        code: ErrorCode.InvalidOptions,
        message: expect.stringContaining(
          `MinibatchModule.forRootAsync: the factory returned ${option}, which shapes the module and is needed before a factory runs: ` +
            `give it next to the factory, forRootAsync({ ${option}: …, useFactory: … })`,
        ) as string,
      });
    }
  });
});

describe('what needs the module', () => {
  @Injectable()
  class Producer {
    constructor(@InjectStream('flights') readonly flights: Stream) {}
  }
  @Module({ providers: [Producer] })
  class ProducerModule {}

  it('names forFeature, if a handle is injected where nothing provides it', async () => {
    await expect(start({ imports: [root(), ProducerModule] })).rejects.toThrow(
      /dependencies of the Producer.*the argument "MinibatchModule\.forFeature\(\['flights'\]\)" at index \[0\] is available in the ProducerModule/s,
    );
  });

  it('names forRoot, if forFeature stands alone', async () => {
    await expect(
      start({ imports: [MinibatchModule.forFeature(['flights'])], providers: [Producer] }),
    ).rejects.toMatchObject({
      code: ErrorCode.MissingModule,
      message: expect.stringContaining(
        "MinibatchModule.forFeature(['flights']): MinibatchModule.forRoot() is not imported: import it in the root module",
      ) as string,
    });
  });

  it('names the service, if that is injected and the module is not there', async () => {
    @Injectable()
    class Other {
      constructor(readonly streams: StreamService) {}
    }
    await expect(start({ providers: [Other] })).rejects.toThrow(
      /dependencies of the Other.*StreamService at index \[0\]/s,
    );
  });
});
