import 'reflect-metadata';
import { Injectable, type LoggerService, type Provider } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Streaming } from './consumers/streaming.decorator.js';
import { CLOCK } from './common/tokens.js';
import { MinibatchModule } from './minibatch.module.js';
import type { MinibatchModuleOptions } from './minibatch.options.js';
import type { Sink } from './sinks/sink.interface.js';
import type { Source } from './sources/source.interface.js';
import { StreamSource } from './sources/stream-source.decorator.js';
import { MemoryStreamStore } from './storage/memory/index.js';
import { StreamService } from './streams/stream.service.js';
import { VirtualClock } from './testing/virtual-clock.js';
import { wrapStore } from './testing/wrapped-store.js';

/** What `docker stop` waits; Kubernetes waits longer. */
const GRACE = 10_000;

const never = () => new Promise<never>(() => undefined);

@Injectable()
class Stuck {
  @Streaming('flights', { size: 1 })
  handle(): Promise<void> {
    return never();
  }
}

@Injectable()
class StuckSink implements Sink {
  put(): Promise<void> {
    return never();
  }
}

@Injectable()
class Delivers {
  @Streaming('flights', { size: 1, group: 'sinks', sink: StuckSink })
  handle() {
    return 1;
  }
}

@Injectable()
@StreamSource('flights')
class StuckSource implements Source {
  stream(): Promise<void> {
    return never();
  }
}

class Lines implements LoggerService {
  readonly all: string[] = [];
  log(message: string) {
    this.all.push(message);
  }
  warn(message: string) {
    this.all.push(message);
  }
  error(message: string) {
    this.all.push(message);
  }
}

describe('the shutdown', () => {
  let clock: VirtualClock;
  let lines: Lines;
  let listeners: Map<NodeJS.Signals, readonly NodeJS.SignalsListener[]>;

  beforeEach(() => {
    clock = new VirtualClock();
    lines = new Lines();
    listeners = new Map();
    for (const name of ['SIGINT', 'SIGTERM'] as const) {
      listeners.set(name, process.listeners(name) as NodeJS.SignalsListener[]);
      process.removeAllListeners(name);
    }
  });
  afterEach(() => {
    for (const [name, all] of listeners) {
      process.removeAllListeners(name);
      for (const listener of all) process.on(name, listener);
    }
  });

  const start = async (
    providers: Provider[],
    { silent = [], ...options }: MinibatchModuleOptions & { readonly silent?: readonly string[] } = {},
  ) => {
    const inner = new MemoryStreamStore();
    const isSilent = { value: false };
    const store = wrapStore(inner, ({ method, proceed }) =>
      isSilent.value && silent.includes(method) ? never() : proceed(),
    );
    const app = await Test.createTestingModule({ imports: [MinibatchModule.forRoot({ store, ...options })], providers })
      .overrideProvider(CLOCK)
      .useValue(clock)
      .setLogger(lines)
      .compile();
    await app.init();
    await app.get(StreamService).append('flights', 1);
    await clock.advance(1_000);
    isSilent.value = true;
    return app;
  };
  const timed = async (closing: Promise<unknown>, most: number) => {
    const began = clock.monotonic();
    let took: number | undefined;
    void closing.then(() => (took = clock.monotonic() - began));
    for (let i = 0; i < most / 100 && took === undefined; i += 1) await clock.advance(100);
    return took;
  };

  it('ends within the time that docker gives, whatever hangs', async () => {
    const app = await start([Stuck, Delivers, StuckSink, StuckSource], { silent: ['releaseLease', 'renewLeases'] });
    const took = await timed(app.close(), 2 * GRACE);
    expect(took).toBeGreaterThan(5_000);
    expect(took).toBeLessThan(GRACE);
    expect(lines.all).toContainEqual(
      expect.stringMatching(
        /^stopping, waiting for 5000 ms at most for Stuck\.handle: the method with window .* since .*; Delivers\.handle: sink StuckSink with window .* since /,
      ),
    );
    expect(lines.all).toContainEqual(expect.stringContaining('source StuckSource'));
  });

  it('is cut short by a second signal, which is not the first one sent twice', async () => {
    process.on('SIGINT', () => undefined);
    const app = await start([Stuck], { shutdownTimeout: '10 minutes' });
    const closing = app.close();
    await clock.advance(500);
    process.emit('SIGINT', 'SIGINT');
    expect(await timed(closing, 60_000)).toBeUndefined();
    process.emit('SIGINT', 'SIGINT');
    // The clock stands still: nothing is waited for.
    await closing;
    expect(lines.all).toContain(
      'SIGINT while shutting down: no longer waiting for running handlers; their windows will be redelivered',
    );
  });

  it('leaves no listener behind, and adds none where a signal ends the process anyway', async () => {
    let heard = 0;
    process.on('SIGTERM', () => (heard += 1));
    const app = await start([Stuck], { shutdownTimeout: '1s' });
    const closing = app.close();
    await clock.advance(100);
    expect([process.listenerCount('SIGTERM'), process.listenerCount('SIGINT')]).toEqual([2, 0]);
    process.emit('SIGTERM', 'SIGTERM');
    expect(heard).toBe(1);
    await timed(closing, GRACE);
    expect([process.listenerCount('SIGTERM'), process.listenerCount('SIGINT')]).toEqual([1, 0]);
  });
});
