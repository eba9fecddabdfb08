import { Inject, Injectable, type InjectionToken } from '@nestjs/common';
import type { ModuleRef } from '@nestjs/core';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';

/** The module whose providers a consumer sees. */
export interface HostModule {
  readonly name: string;
  readonly moduleRef: ModuleRef;
}

/** As if the consumer's class injected it. @throws MinibatchError `UnresolvedProvider` */
export async function injectFrom(
  label: string,
  option: string,
  name: string,
  token: InjectionToken,
  host: HostModule,
): Promise<unknown> {
  class Probe {
    constructor(readonly value: unknown) {}
  }
  Injectable()(Probe);
  Inject(token)(Probe, undefined, 0);
  try {
    const probe = await host.moduleRef.create(Probe);
    return probe.value;
  } catch (cause) {
    throw new MinibatchError(
      ErrorCode.UnresolvedProvider,
      `${label}: ${option} ${name} can't be injected in ${host.name}: list it in the providers of ${host.name}, or import ` +
        'the module that exports it; it must not be request-scoped',
      { cause, details: { consumer: label, option, token: name, module: host.name } },
    );
  }
}

/** Undefined for what is no token. */
export function tokenOf(ref: unknown): InjectionToken | undefined {
  if (typeof ref === 'string' || typeof ref === 'symbol') return ref;
  if (typeof ref === 'function') return ref;
  if (typeof ref === 'object' && ref !== null && 'forwardRef' in ref && typeof ref.forwardRef === 'function') {
    return tokenOf((ref.forwardRef as () => unknown)());
  }
  return undefined;
}
