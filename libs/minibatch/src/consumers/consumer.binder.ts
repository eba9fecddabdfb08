import type { ConsumerDefinition, NamedSink } from '../emitter/emitter.interface.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { Executor, WindowHandler } from '../executors/executor.interface.js';
import { resolveSinks } from '../sinks/sink.resolver.js';
import { WindowEmitter } from '../windows/window-emitter.js';
import type { RegisteredConsumer } from './consumer.registry.js';

/**
 * Makes of a registered consumer what the engine runs: sinks and strategy come out of the consumer's own module.
 *
 * @throws MinibatchError `InvalidOptions`, `UnresolvedProvider`
 */
export async function bindConsumer(consumer: RegisteredConsumer, executor: Executor): Promise<ConsumerDefinition> {
  const { label, stream, module, resolved } = consumer;
  const sinks: readonly NamedSink[] = await resolveSinks(label, resolved.sinks, module);
  return {
    key: { stream, group: resolved.group, partition: 0 },
    label,
    emitter: await createEmitter(consumer),
    emitterContext: resolved.emitterContext,
    timeOrder: resolved.timeOrder,
    handler: handlerOf(consumer),
    executor,
    sinks,
    workers: resolved.workers,
    keep: resolved.keep,
    retry: resolved.retry,
    onAllFailed: resolved.onAllFailed,
    onRefused: resolved.onRefused,
    ...(resolved.rateLimit === undefined ? {} : { rateLimit: resolved.rateLimit }),
    maxSize: resolved.maxSize,
    maxBytes: resolved.maxBytes,
    lookAhead: resolved.lookAhead,
    ...(resolved.replaces === undefined ? {} : { replaces: resolved.replaces }),
  };
}

/** Looks the method up at each call, as any other caller of the provider would. */
function handlerOf({ instance, method }: RegisteredConsumer): WindowHandler {
  const host = instance as Record<string, WindowHandler>;
  return (window) => host[method]?.(window);
}

/** An own instance for the consumer, with what its constructor asks for. */
async function createEmitter({ label, module, resolved }: RegisteredConsumer): Promise<WindowEmitter> {
  const { emitter } = resolved;
  let created: unknown;
  try {
    created = await module.moduleRef.create(emitter as new () => WindowEmitter);
  } catch (cause) {
    throw new MinibatchError(
      ErrorCode.UnresolvedProvider,
      `${label}: the emitter ${emitter.name} can't be made in ${module.name}: decorate it with @Injectable() if its ` +
        `constructor asks for something, and provide that in ${module.name}`,
      { cause, details: { consumer: label, emitter: emitter.name, module: module.name } },
    );
  }
  if (created instanceof WindowEmitter) return created as WindowEmitter;
  throw new MinibatchError(ErrorCode.UnresolvedProvider, `${label}: ${emitter.name} did not make a WindowEmitter`);
}
