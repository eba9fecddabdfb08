import 'reflect-metadata';
import { forwardRef, Inject, Injectable, Module, Scope, type Type } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { Test } from '@nestjs/testing';
import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import type { Sink } from '../sinks/sink.interface.js';
import { resolveSinks } from './sink.resolver.js';

@Injectable()
class Reports implements Sink {
  put() {}
}

const TOKEN = Symbol('results');

/** Resolves sinks as a consumer in `host` would. */
async function resolveIn(host: Type, sinks: readonly unknown[], root: Type = host) {
  const app = await Test.createTestingModule({ imports: [root] }).compile();
  const moduleRef = app.select(host).get(ModuleRef, { strict: true });
  return resolveSinks('Report.summarize', sinks, { name: host.name, moduleRef });
}

describe('resolveSinks', () => {
  it('takes classes, tokens, forward references, abstract classes and instances', async () => {
    abstract class Results implements Sink {
      abstract put(): void;
    }
    const instance = new Reports();
    @Module({
      providers: [
        Reports,
        { provide: TOKEN, useExisting: Reports },
        { provide: 'text', useFactory: () => instance },
        { provide: Results, useClass: Reports },
      ],
    })
    class Host {}
    const own = { put: () => undefined };
    const sinks = await resolveIn(Host, [Reports, TOKEN, 'text', forwardRef(() => Reports), Results, instance, own]);
    expect(sinks.map(({ name }) => name)).toEqual([
      'Reports',
      'Symbol(results)',
      'text',
      'Reports',
      'Results',
      'Reports',
      'Object',
    ]);
    expect(sinks[1]?.sink).toBe(sinks[0]?.sink);
    expect(sinks[2]?.sink).toBe(instance);
    expect(sinks[3]?.sink).toBe(sinks[0]?.sink);
    expect(sinks[6]?.sink).toBe(own);
  });

  it('sees what the consumer’s module imports, and takes its own before another module’s', async () => {
    const make = (name: string): Sink & { name: string } => ({ name, put: () => undefined });
    @Module({ providers: [{ provide: 'results', useFactory: () => make('other') }], exports: ['results'] })
    class Other {}
    @Module({ providers: [{ provide: 'results', useFactory: () => make('own') }], exports: ['results'] })
    class Own {}
    @Module({ imports: [Own] })
    class Host {}
    @Module({ imports: [Other, Host] })
    class Root {}
    expect(await resolveIn(Host, ['results'], Root)).toMatchObject([{ sink: { name: 'own' } }]);
  });

  it('does not see what another module keeps to itself', async () => {
    @Module({ providers: [Reports] })
    class Hidden {}
    @Module({ imports: [Hidden] })
    class Host {}
    await expect(resolveIn(Host, [Reports])).rejects.toMatchObject({
      code: ErrorCode.UnresolvedProvider,
      message: expect.stringMatching(
        /Report\.summarize: sink Reports can't be injected in Host: list it in the providers/,
      ) as string,
      cause: expect.anything() as unknown,
    });
  });

  it('refuses what is not a sink', async () => {
    @Module({
      providers: [Reports, { provide: 'none', useValue: undefined }, { provide: 'other', useValue: { write() {} } }],
    })
    class Host {}
    for (const [ref, code] of [
      ['none', ErrorCode.UnresolvedProvider],
      ['other', ErrorCode.UnresolvedProvider],
      ['missing', ErrorCode.UnresolvedProvider],
      [5, ErrorCode.InvalidOptions],
      [{ write() {} }, ErrorCode.InvalidOptions],
      [undefined, ErrorCode.InvalidOptions],
    ] as const) {
      await expect(resolveIn(Host, [Reports, ref])).rejects.toMatchObject({
        code,
        message: expect.stringContaining('Report.summarize: sink[1]') as string,
      });
    }
  });

  it('refuses a request-scoped sink', async () => {
    @Injectable({ scope: Scope.REQUEST })
    class Scoped implements Sink {
      constructor(@Inject(forwardRef(() => Reports)) readonly reports: Reports) {}
      put() {}
    }
    @Module({ providers: [Scoped, Reports] })
    class Host {}
    await expect(resolveIn(Host, [Scoped])).rejects.toMatchObject({ code: ErrorCode.UnresolvedProvider });
  });
});
