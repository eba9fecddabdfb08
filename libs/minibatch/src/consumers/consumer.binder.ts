import type { ConsumerDefinition } from '../engine/engine.interface.js';
import { invalidOption } from '../common/checks.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { Executor, WindowHandler } from '../executors/executor.interface.js';
import { resolveExecutor } from './executor.resolver.js';
import type { ExecutorRegistry } from './executor.registry.js';
import { resolveSinks } from './sink.resolver.js';
import { requireInjectable } from '../definitions/injectable.js';
import { WindowEmitter } from '../windows/window-emitter.js';
import { definitionOf, keyedDefinitionOf, type MakeKeyed } from './consumer.definition.js';
import type { RegisteredConsumer } from './consumer.registry.js';

/**
 * Makes of a registered consumer what the engine runs: executor, sinks and strategy come out of the consumer's own module.
 *
 * @param makeKeyed makes windows by key and event time
 * @throws MinibatchError `InvalidOptions`, `UnresolvedProvider`, `NotInjectable`, `StoreUnsupported`
 */
export async function bindConsumer(
  consumer: RegisteredConsumer,
  executors: ExecutorRegistry,
  makeKeyed: MakeKeyed,
): Promise<ConsumerDefinition> {
  const { label, stream, module, resolved } = consumer;
  const { group, workers } = resolved;
  if (resolved.keyed) requireOnePartition(consumer);
  const choice = await resolveExecutor(label, resolved.executor, module);
  const executor = executors.bind(choice, { label, stream, group, workers });
  const sinks = await resolveSinks(label, resolved.sinks, module);
  const parts = {
    ...consumer,
    emitter: await createEmitter(consumer),
    another: () => createEmitter(consumer),
    handler: handlerOf(consumer),
    sinks,
    executor,
  };
  return resolved.keyed ? keyedDefinitionOf(parts, resolved.keyed, makeKeyed) : definitionOf(parts);
}

/** Messages of one key, or of one time, may be in all partitions. @throws MinibatchError `InvalidOptions` */
function requireOnePartition({ label, stream, settings }: RegisteredConsumer): void {
  const partitions = settings?.partitions ?? 1;
  if (partitions === 1) return;
  throw invalidOption(
    label,
    'partitions',
    partitions,
    `1 for '${stream}', together with windows by key and event time: messages of one key or time may be in all partitions`,
  );
}

/**
 * In a process of the role `worker`: of a consumer only the method runs, so nothing else of it is made.
 *
 * @returns the executor that brings the windows; undefined if it leaves that to the application
 * @throws MinibatchError `InvalidOptions`, `UnresolvedProvider`
 */
export async function bindServed(
  consumer: RegisteredConsumer,
  executors: ExecutorRegistry,
): Promise<Executor | undefined> {
  const { label, stream, module, resolved } = consumer;
  const { group, workers } = resolved;
  const choice = await resolveExecutor(label, resolved.executor, module);
  return executors.bindServed(choice, { label, stream, group, workers, handler: handlerOf(consumer) });
}

/** Looks the method up at each call, as any other caller of the provider would. */
export function handlerOf({ instance, method }: RegisteredConsumer): WindowHandler {
  const host = instance as Record<string, WindowHandler>;
  return (window) => host[method]?.(window);
}

/** An instance of the consumer's own, with what its constructor asks for. */
async function createEmitter({ label, module, resolved }: RegisteredConsumer): Promise<WindowEmitter> {
  const { emitter } = resolved;
  requireInjectable(label, emitter);
  let created: unknown;
  try {
    created = await module.moduleRef.create(emitter as new () => WindowEmitter);
  } catch (cause) {
    throw new MinibatchError(
      ErrorCode.UnresolvedProvider,
      `${label}: the emitter ${emitter.name} can't be created in ${module.name}: decorate it with @Injectable() if its ` +
        `constructor injects something, and provide that in ${module.name}`,
      { cause, details: { consumer: label, emitter: emitter.name, module: module.name } },
    );
  }
  if (created instanceof WindowEmitter) return created as WindowEmitter;
  throw new MinibatchError(ErrorCode.UnresolvedProvider, `${label}: ${emitter.name} did not create a WindowEmitter`);
}
