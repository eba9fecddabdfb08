import 'reflect-metadata';
import {
  type DynamicModule,
  Injectable,
  Logger,
  type LoggerService,
  Module,
  type ModuleMetadata,
  Optional,
} from '@nestjs/common';
import { LazyModuleLoader, NestFactory } from '@nestjs/core';
import { Test } from '@nestjs/testing';
import { afterEach, describe, expect, it } from 'vitest';
import { CLOCK } from './common/tokens.js';
import { Streaming } from './consumers/streaming.decorator.js';
import { MinibatchModule } from './minibatch.module.js';
import type { MinibatchModuleOptions } from './minibatch.options.js';
import { defineStream } from './definitions/stream-ref.js';
import { from } from './pipelines/flow.js';
import { Pipeline } from './pipelines/pipeline.decorator.js';
import type { Source } from './sources/source.interface.js';
import { StreamSource } from './sources/stream-source.decorator.js';
import { memoryStore } from './storage/memory/index.js';
import { VirtualClock } from './testing/virtual-clock.js';

class Lines implements LoggerService {
  readonly warnings: string[] = [];
  readonly notes: string[] = [];
  log(message: string, context?: string) {
    if (context === 'Minibatch') this.notes.push(message);
  }
  error() {}
  warn(message: string, context?: string) {
    if (context === 'Minibatch') this.warnings.push(message);
  }
}

const closing: (() => Promise<void>)[] = [];
const clock = new VirtualClock();

/** As in `main.ts`: a testing module would be left alone. Each class of this file is a mistake in an application that lacks it. */
async function start(metadata: ModuleMetadata, options: MinibatchModuleOptions = {}, asked: readonly string[] = []) {
  const minibatch = MinibatchModule.forRoot({ store: memoryStore(), ...options });
  const imports: DynamicModule[] = [
    { ...minibatch, providers: [...(minibatch.providers ?? []), { provide: CLOCK, useValue: clock }] },
  ];
  class AppModule {}
  Module({ ...metadata, imports: [...imports, ...(metadata.imports ?? [])] })(AppModule);
  return launch(AppModule, asked);
}

/** @param asked names of the classes that the test is about */
async function launch(module: object, asked: readonly string[]) {
  const lines = new Lines();
  const app = await NestFactory.createApplicationContext(module, { logger: lines, abortOnError: false });
  closing.push(() => app.close());
  return {
    app,
    notes: lines.notes,
    warnings: async () => {
      await clock.advance(1_000);
      return lines.warnings.filter((line) =>
        asked.some((name) => line.includes(`${name}.`) || line.includes(`${name} `)),
      );
    },
  };
}

afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
  Logger.overrideLogger(false);
});

describe('a decorated class that is in no module', () => {
  it('is named, with what it would do and how to provide it', async () => {
    class Forgotten {
      @Streaming('flights', { size: 1 })
      summarize() {}
      @Streaming('flights', { size: 1, group: 'second' })
      count() {}
    }
    @StreamSource('flights')
    class ForgottenFeed implements Source {
      async *stream() {}
    }
    expect([Forgotten, ForgottenFeed]).toHaveLength(2);
    const { warnings } = await start({}, {}, ['Forgotten', 'ForgottenFeed']);
    expect(await warnings()).toEqual([
      "Forgotten.summarize consumes 'flights', Forgotten.count consumes 'flights', but Forgotten is in no module of an application that has started, so it is never called: " +
        'list it in the providers of a module that the application imports; or, if other processes run it, leave it to them by the option consumers. ' +
        'Ignore this if an application that starts later in this process has it',
      "ForgottenFeed feeds 'flights', but ForgottenFeed is in no module of an application that has started, so it is never called: list it in the " +
        'providers of a module that the application imports; or, if other processes run it, leave it to them by the option sources. ' +
        'Ignore this if an application that starts later in this process has it',
    ]);
  });

  it('is named if it has a pipeline', async () => {
    class ForgottenPipeline {
      @Pipeline('forgotten')
      run() {
        return from(defineStream('flights')).to(defineStream('others'));
      }
    }
    const { warnings } = await start({}, {}, [ForgottenPipeline.name]);
    expect(await warnings()).toEqual([
      expect.stringMatching(
        /^ForgottenPipeline\.run is the pipeline 'forgotten', but ForgottenPipeline is in no module/,
      ),
    ]);
    const provided = await start({ providers: [ForgottenPipeline] }, {}, [ForgottenPipeline.name]);
    expect(await provided.warnings()).toEqual([]);
  });

  it('is no mistake where it is left to other processes', async () => {
    class Elsewhere {
      @Streaming('flights', { size: 1 })
      summarize() {}
    }
    for (const options of [{ consumers: [] }, { autoStart: false }]) {
      const { warnings } = await start({}, options, [Elsewhere.name]);
      expect(await warnings()).toEqual([]);
    }
  });

  it('is none if another application of the process has it', async () => {
    @Injectable()
    class First {
      @Streaming('flights', { size: 1 })
      summarize() {}
    }
    @Injectable()
    class Second {
      @Streaming('flights', { size: 1 })
      summarize() {}
    }
    const names = ['First', 'Second'];
    const one = await start({ providers: [First] }, {}, names);
    const two = await start({ providers: [Second] }, {}, names);
    expect([...(await one.warnings()), ...(await two.warnings())]).toEqual([]);
  });

  it('is not named again when an application that starts later has it, and the log says so', async () => {
    @Injectable()
    class Early {
      @Streaming('flights', { size: 1 })
      summarize() {}
    }
    @Injectable()
    class Late {
      @Streaming('flights', { size: 1, group: 'late' })
      summarize() {}
    }
    @Injectable()
    class Later extends Late {}
    const one = await start({ providers: [Early] }, {}, ['Early', 'Late']);
    const [warning, ...others] = await one.warnings();
    expect(others).toEqual([]);
    expect(warning).toContain('Ignore this if an application that starts later in this process has it');
    const two = await start({ providers: [Later] }, {}, ['Early', 'Late', 'Later']);
    expect(await two.warnings()).toEqual([]);
    const found = 'Late is in a module of an application that started later: ignore the earlier warning about it';
    expect(two.notes.filter((line) => line.includes('ignore'))).toEqual([found]);
    const three = await start({ providers: [Later, Early] }, {}, ['Early', 'Late', 'Later']);
    expect(await three.warnings()).toEqual([]);
    expect(three.notes.filter((line) => line.includes('ignore'))).toEqual([]);
  });

  it('is none in a testing module, which may have a part of the application', async () => {
    class Untested {
      @Streaming('flights', { size: 1 })
      summarize() {}
    }
    const lines = new Lines();
    const minibatch = MinibatchModule.forRoot({ store: memoryStore() });
    const module = await Test.createTestingModule({ imports: [minibatch] })
      .overrideProvider(CLOCK)
      .useValue(clock)
      .setLogger(lines)
      .compile();
    closing.push(() => module.close());
    await module.init();
    await clock.advance(1_000);
    expect(lines.warnings.filter((line) => line.includes(Untested.name))).toEqual([]);
  });

  it('is none if a subclass of it is found, decorated or not', async () => {
    abstract class Base {
      @Streaming('flights', { size: 1 })
      summarize() {}
    }
    @Injectable()
    class Plain extends Base {}
    abstract class Decorated {
      @Streaming('flights', { size: 1, group: 'decorated' })
      summarize() {}
    }
    @Injectable()
    class Again extends Decorated {
      @Streaming('flights', { size: 1, group: 'again' })
      override summarize() {}
    }
    const { warnings } = await start({ providers: [Plain, Again] }, {}, ['Base', 'Plain', 'Decorated', 'Again']);
    expect(await warnings()).toEqual([]);
  });

  it('is none if it comes with a module that is loaded later', async () => {
    @Injectable()
    class Late {
      @Streaming('flights', { size: 1 })
      summarize() {}
    }
    @Module({ providers: [Late] })
    class LateModule {}
    @Injectable()
    class Loading {
      constructor(readonly loader: LazyModuleLoader) {}
    }
    const { app, warnings } = await start({ providers: [Loading] }, {}, ['Late']);
    expect(await warnings()).toEqual([]);
    await app.get(Loading).loader.load(() => LateModule);
    expect(await warnings()).toEqual([]);
  });

  it('is none if it is provided as something else, or if its factory makes nothing', async () => {
    class Mocked {
      @Streaming('flights', { size: 1 })
      summarize() {}
    }
    class Disabled {
      @Streaming('flights', { size: 1 })
      summarize() {}
    }
    const providers = [
      { provide: Mocked, useValue: {} },
      { provide: Disabled, useFactory: () => undefined },
    ];
    const { warnings } = await start({ providers }, {}, ['Mocked', 'Disabled']);
    expect(await warnings()).toEqual([]);
  });

  it('is none if it is an older version of one that was found', async () => {
    const loaded = () => {
      class Reloaded {
        @Streaming('flights', { size: 1 })
        summarize() {}
      }
      return Reloaded;
    };
    const old = loaded();
    const { warnings } = await start({ providers: [loaded()] }, {}, [old.name]);
    expect(await warnings()).toEqual([]);
  });
});

describe('a decorated class in an application without MinibatchModule', () => {
  it('is named when the application has started', async () => {
    @Injectable()
    class Alone {
      @Streaming('flights', { size: 1 })
      summarize() {}
    }
    @StreamSource('flights')
    class AloneFeed implements Source {
      async *stream() {}
    }
    @Module({ providers: [Alone, AloneFeed] })
    class AppModule {}
    const { warnings } = await launch(AppModule, ['Alone', 'AloneFeed']);
    const ending = 'is never called: import MinibatchModule.forRoot() in the root module';
    expect(await warnings()).toEqual([
      `Alone.summarize consumes 'flights', but the application does not import MinibatchModule, so Alone ${ending}`,
      `AloneFeed feeds 'flights', but the application does not import MinibatchModule, so AloneFeed ${ending}`,
    ]);
  });

  it('keeps a hook of its own, and is none if the module has found it, whatever runs there', async () => {
    let hooks = 0;
    @Injectable()
    class Hooked {
      constructor(@Optional() readonly nothing?: string) {}
      onApplicationBootstrap() {
        hooks += 1;
      }
      @Streaming('flights', { size: 1, group: 'hooked' })
      summarize() {}
    }
    @Injectable()
    class Bound {
      @Streaming('flights', { size: 1, group: 'bound' })
      summarize() {}
    }
    for (const options of [{}, { autoStart: false }, { consumers: [] }]) {
      const { warnings } = await start({ providers: [Hooked, Bound] }, options, ['Hooked', 'Bound']);
      expect(await warnings()).toEqual([]);
    }
    expect(hooks).toBe(3);
  });
});
