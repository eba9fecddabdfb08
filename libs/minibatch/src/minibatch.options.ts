import type { EngineOptions } from './engine/engine.interface.js';
import { checkBoolean, checkDuration, checkInteger, checkKeys, invalidOption } from './common/checks.js';
import { ErrorCode, MinibatchError } from './errors/minibatch.error.js';
import { isExecutor } from './executors/executor-ref.js';
import type { Executor } from './executors/executor.interface.js';
import { type PendingLimits, resolvePending } from './streams/pending-limit.js';
import {
  type AttemptRetryOptions,
  type Duration,
  resolveAttempts,
  type ResolvedAttempts,
  SHUTDOWN_TIMEOUT,
} from './definitions/shared.options.js';

/**
 * How the module behaves in this process. What decides which providers exist at all (the store, the status controller)
 * is in `MinibatchModuleExtras`.
 */
export interface MinibatchModuleOptions {
  /**
   * A process that has not renewed its lease for this long is replaced by another one. Milliseconds, at least 250, or a string like `'15s'`.
   * @default '15s'
   */
  readonly leaseTime?: Duration;
  /**
   * Consumers are spread evenly over the processes that run them: one that gives a consumer up finishes the windows that run, however long
   * it takes. If it takes longer than this, the log says what it waits for, and soon after the other process asks for another consumer
   * instead, if one can move. Milliseconds, or a string like `'10s'`.
   * @default '10s'
   */
  readonly handover?: Duration;
  /**
   * Most consumers that this process works for at a time. It takes more of them only while no other process does, and says so in the log.
   * @default as many as there are
   */
  readonly maxLeases?: number;
  /** Messages that each consumer reads beyond those of its open windows. @default 1200 */
  readonly readAhead?: number;
  /** The same in bytes. @default 16 MiB */
  readonly readAheadBytes?: number;
  /**
   * How long a `dedupeId` is remembered after its message was committed. Milliseconds, at least 1,000, or a string like `'1 day'`.
   * @default '1 day'
   */
  readonly dedupeTime?: Duration;
  /** Defaults of all consumers; the waits apply to sources too. @default 5 attempts, with waits from 1 s to 1 minute between them */
  readonly retry?: AttemptRetryOptions;
  /**
   * Where the methods of consumers run that name no `executor` themselves: `'inline'`, on the event loop of the process that holds the
   * consumer's lease, or an executor such as `threads({ … })`. @default 'inline'
   */
  readonly executor?: Executor | 'inline';
  /**
   * How long running handlers may continue once the application shuts down, and how long appends wait for the store. Stopping the sources,
   * releasing the leases and closing the store may take 4 s more; with the default, all of it fits into the 10 s that `docker stop`
   * waits. Milliseconds, or a string like `'5s'`. @default '5s'
   */
  readonly shutdownTimeout?: Duration;
  /**
   * Most messages appended in this process, to all streams together, that await the store's answer. Beyond it an append fails
   * with the code `StreamFull`, or waits, as the stream's `overflow` says. @default 100,000
   */
  readonly maxPendingAppends?: number;
  /** The same in bytes of data, keys, headers and dedupe ids. @default 128 MiB */
  readonly maxPendingAppendBytes?: number;
  /**
   * `'worker'`: this process runs methods for the executors of others. No consumer competes for a lease, no source starts, and the store is
   * opened when something uses it. The environment variable `MINIBATCH_ROLE` overrides it, so that both can boot the same module.
   * @default 'emitter'
   */
  readonly role?: MinibatchRole;
  /** False: nothing runs before `MinibatchRunner.start()`; for processes that only append. @default true */
  readonly autoStart?: boolean;
  /**
   * The consumers that run in this process, each as `'Class.method'`, `'stream/group'` or `'stream'`; `[]` for none. The
   * environment variable `MINIBATCH_CONSUMERS` (a comma-separated list, or `none`) overrides it, so that web and worker
   * processes can boot the same module. @default all
   */
  readonly consumers?: readonly string[];
  /**
   * The `@StreamSource`s that run in this process, each as its class, its name or its stream; `[]` for none. The environment variable
   * `MINIBATCH_SOURCES` overrides it. @default all
   */
  readonly sources?: readonly string[];
}

/** What a process is for. An emitter holds leases, reads, cuts windows and commits them; a worker runs methods for emitters. */
export type MinibatchRole = 'emitter' | 'worker';

/** What `resolveOptions` makes of the options: nothing is missing, durations are milliseconds. */
export interface ResolvedOptions {
  readonly engine: EngineOptions;
  readonly retry: ResolvedAttempts;
  readonly executor: Executor | 'inline';
  readonly shutdownTimeout: number;
  readonly pending: PendingLimits;
  readonly role: MinibatchRole;
  readonly autoStart: boolean;
  /** Undefined: all. */
  readonly consumers?: readonly string[];
  /** Undefined: all. */
  readonly sources?: readonly string[];
}

/** The part of the environment that the module reads. */
export interface MinibatchEnvironment {
  readonly MINIBATCH_CONSUMERS?: string;
  readonly MINIBATCH_SOURCES?: string;
  readonly MINIBATCH_ROLE?: string;
}

const WHERE = 'MinibatchModule';

/** Validates the options and fills in the defaults. @throws MinibatchError `InvalidOptions` */
export function resolveOptions(
  options: MinibatchModuleOptions = {},
  environment: MinibatchEnvironment = {},
): ResolvedOptions {
  refuseMisplaced(options);
  checkKeys(WHERE, options, [
    'leaseTime',
    'handover',
    'maxLeases',
    'readAhead',
    'readAheadBytes',
    'dedupeTime',
    'retry',
    'executor',
    'shutdownTimeout',
    'maxPendingAppends',
    'maxPendingAppendBytes',
    'role',
    'autoStart',
    'consumers',
    'sources',
  ]);
  const consumers = selection(
    'consumers',
    options.consumers,
    environment.MINIBATCH_CONSUMERS,
    "'Class.method', 'stream/group' or 'stream'",
  );
  const sources = selection(
    'sources',
    options.sources,
    environment.MINIBATCH_SOURCES,
    "a source's class, its name or its stream",
  );
  return {
    engine: {
      leaseTime: checkDuration(WHERE, 'leaseTime', options.leaseTime ?? 15_000, {
        min: 250,
        because: 'a shorter one is lost with every pause of the event loop',
      }),
      handover: checkDuration(WHERE, 'handover', options.handover ?? 10_000, { min: 1 }),
      ...(options.maxLeases !== undefined && { maxLeases: checkInteger(WHERE, 'maxLeases', options.maxLeases, 1) }),
      readAhead: checkInteger(WHERE, 'readAhead', options.readAhead ?? 1200, 1),
      readAheadBytes: checkInteger(WHERE, 'readAheadBytes', options.readAheadBytes ?? 16 * 1024 * 1024, 1),
      dedupeTime: checkDuration(WHERE, 'dedupeTime', options.dedupeTime ?? 24 * 60 * 60 * 1000, { min: 1000 }),
    },
    retry: resolveAttempts(WHERE, options.retry),
    executor: options.executor === undefined ? 'inline' : checkExecutor(options.executor),
    shutdownTimeout: checkDuration(WHERE, 'shutdownTimeout', options.shutdownTimeout ?? SHUTDOWN_TIMEOUT, { min: 0 }),
    pending: resolvePending(WHERE, options),
    role: checkRole(options.role, environment.MINIBATCH_ROLE),
    autoStart: checkBoolean(WHERE, 'autoStart', options.autoStart ?? true),
    ...(consumers ? { consumers } : {}),
    ...(sources ? { sources } : {}),
  };
}

/** @throws MinibatchError `InvalidOptions` */
function checkRole(option: unknown, variable: string | undefined): MinibatchRole {
  const isSet = variable !== undefined && variable.trim() !== '';
  const given = isSet ? variable.trim() : (option ?? 'emitter');
  if (given === 'emitter' || given === 'worker') return given;
  throw invalidOption(WHERE, isSet ? 'MINIBATCH_ROLE' : 'role', given, "'emitter' or 'worker'");
}

/** @throws MinibatchError `InvalidOptions` */
function checkExecutor(given: unknown): Executor | 'inline' {
  if (given === 'inline' || isExecutor(given)) return given;
  const allowed =
    "'inline', or an object with run(task), such as threads({ … }); one that injects something comes from forRootAsync";
  throw invalidOption(WHERE, 'executor', given, allowed);
}

/** What a factory has returned. @throws MinibatchError `InvalidOptions` */
export function requireOptions(given: unknown): MinibatchModuleOptions {
  if (typeof given === 'object' && given !== null) return given;
  throw new MinibatchError(
    ErrorCode.InvalidOptions,
    `${WHERE}: the factory of forRootAsync returned ${String(given)}, and no options: let it return an object, {} for the defaults`,
    { details: { where: WHERE, given } },
  );
}

/** They shape the module, which is there before any factory runs. */
const OUTSIDE = ['store', 'connectionName', 'isGlobal', 'statusController'];

/** `forRoot` takes them out of the options, so they can only come from a factory. */
function refuseMisplaced(options: object): void {
  const option = OUTSIDE.find((name) => Reflect.get(options, name) !== undefined);
  if (option === undefined) return;
  throw new MinibatchError(
    ErrorCode.InvalidOptions,
    `${WHERE}.forRootAsync: the factory returned ${option}, which shapes the module and is needed before a factory runs: give it next to ` +
      `the factory, forRootAsync({ ${option}: …, useFactory: … })` +
      (option === 'store' ? '. What the store needs, it can inject itself: { kind, inject, useFactory }' : ''),
    { details: { where: WHERE, option } },
  );
}

/** A variable that is set but empty counts as not set: that is what compose files make of an absent value. */
function selection(
  option: string,
  given: unknown,
  environment: string | undefined,
  allowed: string,
): readonly string[] | undefined {
  if (environment !== undefined && environment.trim() !== '') {
    const names = environment.split(',').map((name) => name.trim());
    if (names.length === 1 && names[0] === 'none') return [];
    const chosen = names.filter((name) => name !== '');
    if (chosen.length > 0) return chosen;
    // Nothing would run, and nobody would have said so.
    throw invalidOption(
      WHERE,
      `MINIBATCH_${option.toUpperCase()}`,
      environment,
      `a comma list of ${allowed}, or 'none'`,
    );
  }
  if (given === undefined) return undefined;
  if (!Array.isArray(given)) throw invalidOption(WHERE, option, given, `a list of ${allowed}`);
  return given.map((name: unknown, index) => {
    if (typeof name === 'string' && name !== '') return name;
    throw invalidOption(WHERE, `${option}[${index}]`, name, allowed);
  });
}
