import { invalidOption } from '../common/checks.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { isExecutor } from '../executors/executor-ref.js';
import type { Executor } from '../executors/executor.interface.js';
import { nameOf } from '../sinks/sink-instance.js';
import { type HostModule, injectFrom, tokenOf } from './host-module.js';

/**
 * Resolves the `executor` of a consumer, a token as if the consumer's class injected it.
 *
 * @returns undefined if none was given
 * @throws MinibatchError `InvalidOptions`, `UnresolvedProvider`
 */
export async function resolveExecutor(
  label: string,
  ref: unknown,
  host: HostModule,
): Promise<Executor | 'inline' | undefined> {
  if (ref === undefined || ref === 'inline' || isExecutor(ref)) return ref;
  const token = tokenOf(ref);
  if (token === undefined) {
    const allowed =
      "'inline', an object with run(task), such as threads({ … }), a provider class or token, or forwardRef(() => …)";
    throw invalidOption(label, 'executor', ref, allowed);
  }
  const name = nameOf(token) ?? String(token);
  const executor = await injectFrom(label, 'executor', name, token, host);
  if (isExecutor(executor)) return executor;
  throw new MinibatchError(
    ErrorCode.UnresolvedProvider,
    `${label}: executor ${name} is not an executor: it needs a method run(task)`,
    { details: { consumer: label, option: 'executor', token: name } },
  );
}
