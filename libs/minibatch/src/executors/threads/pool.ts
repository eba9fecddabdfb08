import { loadPackage } from '../../common/missing-package.js';
import type { ThreadData, ThreadTask } from './messages.js';

/** What of a Piscina is used. */
export interface Pool {
  run(
    task: ThreadTask,
    options: { readonly transferList: readonly unknown[]; readonly signal: AbortSignal },
  ): Promise<void>;
  destroy(): Promise<void>;
  on(event: 'error', listener: (error: unknown) => void): unknown;
}

interface PoolOptions {
  readonly filename: string;
  readonly minThreads: number;
  readonly maxThreads: number;
  readonly workerData: ThreadData;
  readonly maxMemory: number | undefined;
}

/** Declared here: with the package's own types, ours would not compile where it is not installed. */
type PiscinaClass = new (options: object) => Pool;

/** @throws MinibatchError `MissingPackage` */
export async function makePool({ maxMemory, ...options }: PoolOptions): Promise<Pool> {
  const name: string = 'piscina';
  const { Piscina } = await loadPackage('threads', name, () => import(name) as Promise<{ Piscina: PiscinaClass }>);
  return new Piscina({
    ...options,
    // A method that dies takes its thread along: with two in one, the other window would be lost too.
    concurrentTasksPerWorker: 1,
    // With them a thread without a task blocks its event loop, so connections that the worker holds would time out.
    atomics: 'disabled',
    recordTiming: false,
    ...(maxMemory === undefined ? {} : { resourceLimits: { maxOldGenerationSizeMb: maxMemory } }),
  });
}
