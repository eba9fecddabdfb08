import 'reflect-metadata';
import {
  Controller,
  Get,
  Inject,
  Injectable,
  Module,
  type ModuleMetadata,
  Scope,
  SetMetadata,
  type Type,
} from '@nestjs/common';
import { REQUEST } from '@nestjs/core';
import { Test } from '@nestjs/testing';
import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import { ENGINE } from '../common/tokens.js';
import { MinibatchModule } from '../minibatch.module.js';
import type { MinibatchModuleOptions } from '../minibatch.options.js';
import { memoryStore } from '../storage/memory/index.js';
import type { Window } from '../windows/window.js';
import { FakeEngine } from './fake-engine.spec.support.js';
import { Streaming } from './streaming.decorator.js';

/** Starts an application and returns the consumers that were bound. */
async function bind(metadata: ModuleMetadata, options: MinibatchModuleOptions = {}): Promise<FakeEngine> {
  const engine = new FakeEngine();
  const module = await Test.createTestingModule({
    ...metadata,
    imports: [MinibatchModule.forRoot({ store: memoryStore(), ...options }), ...(metadata.imports ?? [])],
  })
    .overrideProvider(ENGINE)
    .useValue(engine)
    .compile();
  await module.init();
  await module.close();
  return engine;
}

const call = (engine: FakeEngine, label: string) =>
  engine.definitions.find((definition) => definition.label === label)?.handler({ data: [7] } as never as Window);

@Injectable()
class Report {
  readonly seen: unknown[] = [];

  @Streaming('flights', { size: 2 })
  summarize(window: Window) {
    this.seen.push(window.data);
    return `summary of ${String(window.data)}`;
  }
}

describe('a consumer is found', () => {
  it('on a provider, and its method is called on the instance', async () => {
    const engine = await bind({ providers: [Report] });
    expect(engine.definitions).toMatchObject([
      { key: { stream: 'flights', group: 'default', partition: 0 }, label: 'Report.summarize' },
    ]);
    expect(call(engine, 'Report.summarize')).toBe('summary of 7');
  });

  it('on a controller', async () => {
    @Controller('flights')
    class Flights {
      @Get()
      list() {}
      @Streaming('flights', { size: 1 })
      count() {}
    }
    expect((await bind({ controllers: [Flights] })).labels).toEqual(['Flights.count']);
  });

  it('on what a factory makes and on a value', async () => {
    class Other extends Report {
      @Streaming('others', { size: 1 })
      other() {}
      @Streaming('flights', { size: 1, group: 'other' })
      override summarize() {
        return '';
      }
    }
    const providers = [
      { provide: 'made', useFactory: async () => new Report() },
      { provide: 'value', useValue: new Other() },
    ];
    expect((await bind({ providers })).labels).toEqual(['Other.other', 'Other.summarize', 'Report.summarize']);
  });

  it('in modules that are imported, once for each instance', async () => {
    @Module({ providers: [Report], exports: [Report] })
    class ReportModule {}
    @Module({ imports: [ReportModule] })
    class Again {}
    expect((await bind({ imports: [ReportModule, Again] })).labels).toEqual(['Report.summarize']);
  });

  it('once, whatever other names the provider has', async () => {
    const providers = [
      Report,
      { provide: 'alias', useExisting: Report },
      { provide: 'same', useFactory: (report: Report) => report, inject: [Report] },
    ];
    expect((await bind({ providers })).labels).toEqual(['Report.summarize']);
  });

  it('among values that carry nothing', async () => {
    const values: unknown[] = [
      Object.create(null),
      Object.assign(Object.create(null) as object, { summarize() {} }),
      { constructor: undefined },
      Object.create({ constructor: null }),
      'text',
      5,
      null,
      undefined,
      () => 1,
      Symbol('x'),
      [1],
      new Proxy({}, {}),
      class {},
    ];
    const providers = values.map((useValue, index) => ({ provide: `value ${index}`, useValue }));
    expect((await bind({ providers: [...providers, Report] })).labels).toEqual(['Report.summarize']);
  });

  it('in an override of a subclass', async () => {
    @Injectable()
    class Special extends Report {
      override summarize() {
        return 'special';
      }
    }
    const engine = await bind({ providers: [Special] });
    expect(engine.labels).toEqual(['Special.summarize']);
    expect(call(engine, 'Special.summarize')).toBe('special');
  });

  it('with the options of the subclass if that is decorated itself', async () => {
    @Injectable()
    class Special extends Report {
      @Streaming('flights', { size: 5 })
      override summarize() {
        return 'special';
      }
    }
    expect((await bind({ providers: [Special] })).definitions).toMatchObject([{ emitterContext: { size: 5 } }]);
  });

  it('under other decorators, also such that replace the method', async () => {
    const Wrapped: MethodDecorator = (_target, _key, descriptor: PropertyDescriptor) => {
      const original = descriptor.value as (window: Window) => unknown;
      descriptor.value = function (this: unknown, window: Window) {
        return `wrapped ${String(original.call(this, window))}`;
      };
    };
    @Injectable()
    class Decorated {
      @SetMetadata('a', 1)
      @Wrapped
      @Streaming('below', { size: 1 })
      below() {
        return 'below';
      }
      @Streaming('above', { size: 1 })
      @Wrapped
      above() {
        return 'above';
      }
    }
    const engine = await bind({ providers: [Decorated] });
    expect(call(engine, 'Decorated.below')).toBe('wrapped below');
    expect(call(engine, 'Decorated.above')).toBe('wrapped above');
  });

  it('twice for two streams on one method', async () => {
    @Injectable()
    class Both {
      @Streaming('a', { size: 1 })
      @Streaming('b', { size: 2 })
      take() {}
    }
    const { definitions } = await bind({ providers: [Both] });
    expect(definitions.map(({ key, emitterContext }) => [key.stream, emitterContext.size])).toEqual([
      ['a', 1],
      ['b', 2],
    ]);
  });
});

describe('a boot error', () => {
  it.each([
    ['request-scoped', Scope.REQUEST],
    ['transient', Scope.TRANSIENT],
  ])('is raised for a %s host', async (_, scope) => {
    @Injectable({ scope })
    class Scoped {
      @Streaming('flights', { size: 1 })
      count() {}
    }
    await expect(bind({ providers: [Scoped] })).rejects.toMatchObject({
      code: ErrorCode.ScopedHost,
      message: expect.stringContaining('Scoped.count') as string,
    });
  });

  it('is raised for a host that injects something request-scoped, and for such a controller', async () => {
    @Injectable()
    class Indirect {
      constructor(@Inject(REQUEST) readonly request: unknown) {}
      @Streaming('flights', { size: 1 })
      count() {}
    }
    @Controller({ path: 'x', scope: Scope.REQUEST })
    class Requests {
      @Streaming('flights', { size: 1 })
      count() {}
    }
    await expect(bind({ providers: [Indirect] })).rejects.toMatchObject({ code: ErrorCode.ScopedHost });
    await expect(bind({ controllers: [Requests] })).rejects.toMatchObject({ code: ErrorCode.ScopedHost });
  });

  it('is not raised for other scoped providers', async () => {
    @Injectable({ scope: Scope.REQUEST })
    class Scoped {
      other() {}
    }
    expect((await bind({ providers: [Scoped, Report] })).labels).toEqual(['Report.summarize']);
  });

  it.each([
    ['without groups', {}, {}],
    ['with the same group', { group: 'g' }, { group: 'g' }],
    ['with one that is named default', {}, { group: 'default' }],
  ])('is raised for two consumers of a stream %s', async (_, first, second) => {
    @Injectable()
    class Two {
      @Streaming('flights', { size: 1, ...first })
      one() {}
      @Streaming('flights', { size: 1, ...second })
      two() {}
    }
    await expect(bind({ providers: [Two] })).rejects.toMatchObject({
      code: ErrorCode.DuplicateGroup,
      message: expect.stringMatching(/Two\.one and Two\.two both consume 'flights'.*`group`/) as string,
    });
  });

  it('tells when a class is a provider in two modules', async () => {
    @Module({ providers: [Report] })
    class First {}
    @Module({ providers: [Report] })
    class Second {}
    await expect(bind({ imports: [First, Second] })).rejects.toMatchObject({
      code: ErrorCode.DuplicateGroup,
      message: expect.stringContaining('provider in two modules (First, Second)') as string,
    });
  });

  it('is raised for wrong options, also of a consumer that does not run here', async () => {
    @Injectable()
    class Wrong {
      @Streaming('flights', { size: -1 })
      count() {}
    }
    await expect(bind({ providers: [Wrong] }, { consumers: [] })).rejects.toMatchObject({
      code: ErrorCode.InvalidOptions,
      message: expect.stringContaining('Wrong.count: size is -1') as string,
    });
  });

  it('is raised at once where the decorator can’t work', () => {
    const key = Symbol('key');
    expect(() => {
      class Wrong {
        @Streaming('flights', { size: 1 })
        static count() {}
      }
      return Wrong;
    }).toThrow(expect.objectContaining({ code: ErrorCode.InvalidOptions }));
    expect(() => {
      class Wrong {
        @Streaming('flights', { size: 1 })
        [key]() {}
      }
      return Wrong;
    }).toThrow(expect.objectContaining({ code: ErrorCode.InvalidOptions }));
    expect(() => Streaming('', { size: 1 })({}, 'x', { value: () => undefined })).toThrow("stream is ''");
  });
});

describe('the consumers option', () => {
  @Injectable()
  class Many {
    @Streaming('a', { size: 1 })
    one() {}
    @Streaming('a', { size: 1, group: 'other' })
    two() {}
    @Streaming('b', { size: 1 })
    three() {}
  }
  const providers: Type[] = [Many];

  it.each([
    [['a'], ['Many.one', 'Many.two']],
    [['a/other'], ['Many.two']],
    [
      ['Many.three', 'a/default'],
      ['Many.one', 'Many.three'],
    ],
    [[], []],
  ])('%j runs %j', async (consumers, labels) => {
    expect((await bind({ providers }, { consumers })).labels).toEqual(labels);
  });

  it('refuses a name that fits nothing', async () => {
    await expect(bind({ providers }, { consumers: ['Many.four'] })).rejects.toMatchObject({
      code: ErrorCode.InvalidOptions,
      message: expect.stringContaining('Many.one, Many.two, Many.three') as string,
    });
  });
});
