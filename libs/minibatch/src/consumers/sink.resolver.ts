import type { InjectionToken } from '@nestjs/common';
import type { NamedSink } from '../engine/engine.interface.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { invalidOption } from '../common/checks.js';
import { isSink, nameOf, sinkName } from '../sinks/sink-instance.js';
import { type HostModule, injectFrom, tokenOf } from './host-module.js';

/**
 * Resolves sinks as if the consumer's class injected them, so that what its module imports counts and what another
 * module hides does not.
 *
 * @throws MinibatchError `InvalidOptions`, `UnresolvedProvider`
 */
export async function resolveSinks(
  label: string,
  sinks: readonly unknown[],
  host: HostModule,
): Promise<readonly NamedSink[]> {
  return resolveSinksBy(label, sinks, (option, name, token) => injectFrom(label, option, name, token, host));
}

/** Finds what a token stands for; `name` is the token's, for errors. */
export type FindSink = (option: string, name: string, token: InjectionToken) => Promise<unknown>;

/** @throws MinibatchError `InvalidOptions`, `UnresolvedProvider` */
export async function resolveSinksBy(
  label: string,
  sinks: readonly unknown[],
  find: FindSink,
): Promise<readonly NamedSink[]> {
  const resolved: NamedSink[] = [];
  for (const [index, ref] of sinks.entries()) {
    const option = sinks.length === 1 ? 'sink' : `sink[${index}]`;
    resolved.push(await resolveSink(label, option, ref, find));
  }
  return resolved;
}

async function resolveSink(label: string, option: string, ref: unknown, find: FindSink): Promise<NamedSink> {
  if (isSink(ref)) return { name: sinkName(ref), sink: ref };
  const token = tokenOf(ref);
  if (token === undefined) {
    throw invalidOption(label, option, ref, 'a provider class or token, forwardRef(() => …), or an object with put()');
  }
  const name = nameOf(token) ?? String(token);
  const sink = await find(option, name, token);
  if (isSink(sink)) return { name, sink };
  throw new MinibatchError(
    ErrorCode.UnresolvedProvider,
    `${label}: ${option} ${name} is not a sink: it needs a method put(result, window)`,
    { details: { consumer: label, option, token: name } },
  );
}
