import 'reflect-metadata';
import { Injectable, Module } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { Test } from '@nestjs/testing';
import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import { SystemClock } from '../common/clock.js';
import { ExecutorRegistry } from './executor.registry.js';
import { CountWindow } from '../windows/count.window.js';
import { WindowEmitter } from '../windows/window-emitter.js';
import { bindingLine } from './binding-line.js';
import { bindConsumer } from './consumer.binder.js';
import { keyedWindows } from '../pipelines/keyed.binder.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { resolveStreaming } from './streaming.resolve.js';

@Injectable()
class Config {
  readonly limit = 5;
}

@Injectable()
class Limited extends WindowEmitter {
  constructor(readonly config: Config) {
    super();
  }
  windowReady() {
    return false;
  }
  query() {
    return [];
  }
}

@Module({ providers: [Config] })
class Host {}

class Report {
  summarize() {
    return 'before';
  }
}

async function bind(options: unknown, host = Host) {
  const app = await Test.createTestingModule({ imports: [host] }).compile();
  const label = 'Report.summarize';
  const instance = new Report();
  const definition = await bindConsumer(
    {
      stream: 'flights',
      options,
      label,
      instance,
      method: 'summarize',
      module: { name: host.name, moduleRef: app.select(host).get(ModuleRef, { strict: true }) },
      resolved: resolveStreaming(label, options, { base: 1000, max: 60_000, jitter: 0.5, attempts: 5 }),
    },
    new ExecutorRegistry('inline', new SystemClock(), { log() {}, warn() {}, error() {} }),
    keyedWindows(new MemoryStreamStore()),
  );
  return { definition, instance };
}

describe('bindConsumer', () => {
  it('makes what the engine runs', async () => {
    const { definition } = await bind({ size: 3, group: 'g', replaces: 'default', workers: 2, keep: true });
    expect(definition).toMatchObject({
      key: { stream: 'flights', group: 'g', partition: 0 },
      label: 'Report.summarize',
      emitterContext: { size: 3 },
      timeOrder: false,
      sinks: [],
      workers: 2,
      keep: true,
      replaces: 'default',
      retry: { base: 1000 },
    });
    expect(definition.emitter).toBeInstanceOf(CountWindow);
  });

  it('gives each consumer an emitter of its own, with what that injects', async () => {
    const [one, two] = [await bind({ emitter: Limited }), await bind({ emitter: Limited })];
    expect(one.definition.emitter).toBeInstanceOf(Limited);
    expect((one.definition.emitter as Limited).config.limit).toBe(5);
    expect(one.definition.emitter).not.toBe(two.definition.emitter);
  });

  it('tells when the emitter can’t be made', async () => {
    @Module({})
    class Empty {}
    await expect(bind({ emitter: Limited }, Empty)).rejects.toMatchObject({
      code: ErrorCode.UnresolvedProvider,
      message: expect.stringContaining("Report.summarize: the emitter Limited can't be created in Empty") as string,
    });
  });

  it('calls the method as it is at the time of the call', async () => {
    const { definition, instance } = await bind({ size: 1 });
    instance.summarize = () => 'after';
    expect(definition.handler({} as never)).toBe('after');
  });
});

describe('bindingLine', () => {
  it('says in one line what goes where', async () => {
    const { definition } = await bind({ size: 100, interval: '2s', sink: { put: () => undefined } });
    expect(bindingLine(definition)).toBe("'flights' → Report.summarize: CountWindow, size 100, interval 2s → Object");
    const own = await bind({ emitter: Limited, group: 'g', workers: 4 });
    expect(bindingLine(own.definition)).toBe("'flights' → Report.summarize (group g): Limited, 4 workers");
  });
});
