import { type DiscoveryService, ModuleRef } from '@nestjs/core';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { requireInjectable } from './injectable.js';

type InstanceWrapper = ReturnType<DiscoveryService['getProviders']>[number];

/** A provider or controller that may carry our decorators. */
export interface ProviderHost {
  /** The class the decorators stand on, or a subclass of it. */
  readonly type: { readonly name: string };
  readonly prototype: object;
  /** Undefined if there is no single instance: the host is request-scoped or transient. */
  readonly instance?: object;
  /** The class, if Nest calls its constructor; a factory or a value brings the instance otherwise. */
  readonly created?: { readonly name: string; readonly length: number };
  /** The module it belongs to; what it sees is what its consumers see. */
  readonly module: { readonly name: string; readonly moduleRef: ModuleRef };
}

/**
 * All providers and controllers of the application, each instance once: classes, and what factories and values hold. Aliases
 * (`useExisting`) are left out, since their target is found anyway; so is what can't carry a decorator: primitives,
 * functions, objects without prototype.
 */
export function* providerHosts(discovery: DiscoveryService): Generator<ProviderHost> {
  const seen = new Set<unknown>();
  for (const wrapper of [...discovery.getProviders(), ...discovery.getControllers()]) {
    if (wrapper.isAlias || !wrapper.host) continue;
    const module = { name: wrapper.host.name, moduleRef: moduleRefOf(wrapper) };
    if (wrapper.isTransient || !wrapper.isDependencyTreeStatic()) {
      const type = wrapper.isFactory ? undefined : wrapper.metatype;
      const prototype: unknown = type?.prototype;
      if (type && isObject(prototype)) yield { type, prototype, module };
      continue;
    }
    const instance: unknown = wrapper.instance;
    if (!isObject(instance) || seen.has(instance)) continue;
    seen.add(instance);
    const prototype: unknown = Object.getPrototypeOf(instance);
    if (!isObject(prototype) || prototype === Object.prototype) continue;
    const type: unknown = prototype.constructor;
    if (typeof type !== 'function') continue;
    yield { type, prototype, instance, module, ...(wrapper.isNotMetatype ? {} : { created: type }) };
  }
}

/** @throws MinibatchError `ScopedHost`, `NotInjectable` */
export function requireInstance(host: ProviderHost, label: string, decorator: string): object {
  if (host.created) requireInjectable(label, host.created);
  if (host.instance) return host.instance;
  throw new MinibatchError(
    ErrorCode.ScopedHost,
    `${label}: ${decorator} needs a provider with one instance, but ${host.type.name} is transient, or request-scoped itself or ` +
      'by something it injects: move the method to a provider of default scope, and get the rest with ModuleRef.resolve()',
    { details: { host: host.type.name, label } },
  );
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function moduleRefOf(wrapper: InstanceWrapper): ModuleRef {
  return wrapper.host?.getProviderByKey(ModuleRef).instance as ModuleRef;
}
