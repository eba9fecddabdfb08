import type { InjectionToken } from '@nestjs/common';
import { LazyModuleLoader, type ModulesContainer } from '@nestjs/core';
import { type Binding, type DecoratedClass, noteWarned, unfoundClasses } from './definitions/decorated-classes.js';

type Modules = Pick<ModulesContainer, 'values'>;
type HostModule = ReturnType<ModulesContainer['values']> extends Iterable<infer M> ? M : never;

/** What `Test.createTestingModule` calls its root module. */
const TESTING = 'RootTestModule';

const OPTIONS: Readonly<Record<Binding, string>> = { consumer: 'consumers', source: 'sources' };

/**
 * Log lines for the decorated classes that are in no module of any application of this process. Says nothing where that may be intended:
 *
 * - in a testing module, which seldom has more than a part of the application;
 * - where something injects `LazyModuleLoader`: the class may come with a module that is loaded later;
 * - for a class that a module provides as something else: a mock, or nothing by a factory;
 * - for a class that reads as one that was found: an older version of it, in a process that reloads its code.
 *
 * Nobody can know which applications the process will start later. So the line says that it may be void; if it is, `noteFound` logs that.
 *
 * @param asking the provider that asks; what it injects does not count
 * @param bindings those that are not left to other processes by an option
 * @param found what the application has found, in the words of `consumes` and `feeds`
 */
export function unprovidedClasses(
  modules: Modules,
  asking: InjectionToken,
  bindings: readonly Binding[],
  found: readonly string[],
): readonly string[] {
  const all = [...modules.values()];
  if (all.some((module) => module.metatype.name === TESTING || loadsLazily(module, asking))) return [];
  return unfoundClasses()
    .filter(({ binding, uses }) => bindings.includes(binding) && !uses.some((use) => found.includes(use)))
    .filter((each) => !all.some((module) => isToken(module, each)))
    .map((each) => {
      const { name, uses, binding } = each;
      noteWarned(each);
      return (
        `${uses.join(', ')}, but ${name} is in no module of an application that has started, so it is never called: list it in the ` +
        `providers of a module that the application imports; or, if other processes run it, leave it to them by the option ` +
        `${OPTIONS[binding]}. Ignore this if an application that starts later in this process has it`
      );
    });
}

function isToken({ providers, controllers }: HostModule, { prototype }: DecoratedClass): boolean {
  const { constructor: token } = prototype;
  return providers.has(token) || controllers.has(token);
}

function loadsLazily({ providers, controllers }: HostModule, asking: InjectionToken): boolean {
  return [...providers.values(), ...controllers.values()].some((wrapper) => {
    if (wrapper.token === asking) return false;
    // Undefined for what Nest did not have to make.
    const injected = [
      ...(wrapper.getCtorMetadata() ?? []),
      ...(wrapper.getPropertiesMetadata() ?? []).map((property) => property.wrapper),
    ];
    return injected.some(({ token }) => token === LazyModuleLoader);
  });
}
