import type { Executor } from './executor.interface.js';

/** What Nest's `forwardRef` makes; written out, as programs without Nest use these types. */
interface ForwardReference {
  readonly forwardRef: unknown;
}

/** `'inline'`, an executor, or a provider's class or token, resolved in the consumer's own module. */
export type ExecutorRef = (abstract new (...args: never[]) => Executor) | Executor | ForwardReference | string | symbol;

export function isExecutor(value: unknown): value is Executor {
  return typeof value === 'object' && value !== null && 'run' in value && typeof value.run === 'function';
}

/** The name that an executor gives itself, or that of its class. */
export function executorName({ name, constructor }: Executor): string {
  const given: unknown = name;
  return typeof given === 'string' && given !== '' ? given : constructor.name || 'executor';
}
