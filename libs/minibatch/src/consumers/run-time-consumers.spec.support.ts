import { ConsumerEngine } from '../engine/consumer-engine.js';
import { DEFAULT_RETRY } from '../definitions/shared.options.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { keyedWindows } from '../pipelines/keyed.binder.js';
import { plainScope } from './consumer.scope.js';
import { RunTimeConsumers } from './run-time-consumers.js';

/** Consumers on a virtual clock, with what they and their engine log. */
export function virtualConsumers(store = new MemoryStreamStore()) {
  const clock = new VirtualClock();
  const lines: string[] = [];
  const write = (line: string) => void lines.push(line);
  const log = { log: write, warn: write, error: write };
  const engine = new ConsumerEngine(store, clock, log);
  const consumers = new RunTimeConsumers({
    engine,
    clock,
    log,
    retry: DEFAULT_RETRY,
    leaseTime: 15_000,
    shutdownTimeout: 5_000,
    scope: plainScope,
    makeKeyed: keyedWindows(store),
    reserve: () => () => undefined,
  });
  const append = async (data: number) => {
    await store.append([{ stream: 'numbers', data, created: new Date(clock.now()) }]);
    engine.wake('numbers');
  };
  const end = async () => {
    const stopping = engine.stop(0);
    await clock.advance(5_000);
    await stopping;
  };
  return { clock, lines, consumers, append, end };
}
