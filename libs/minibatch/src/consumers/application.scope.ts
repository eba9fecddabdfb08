import { Injectable, type Type } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import type { NamedSink } from '../engine/engine.interface.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { requireInjectable } from '../definitions/injectable.js';
import { resolveSinksBy } from './sink.resolver.js';
import type { WindowEmitter } from '../windows/window-emitter.js';
import { ConsumerExplorer } from './consumer.explorer.js';
import type { ConsumerScope } from './consumer.scope.js';
import type { EmitterClass } from './streaming.options.js';

/**
 * A consumer that is started at run time belongs to no module, so its sinks are looked for in all of them. A token that stands for more
 * than one instance is refused: nobody could tell which one is meant.
 */
@Injectable()
export class ApplicationScope implements ConsumerScope {
  constructor(
    private readonly moduleRef: ModuleRef,
    private readonly explorer: ConsumerExplorer,
  ) {}

  async sinks(label: string, refs: readonly unknown[]): Promise<readonly NamedSink[]> {
    const sinks = await this.resolve(label, refs);
    this.explorer.checkSinks(label, sinks);
    return sinks;
  }

  private resolve(label: string, refs: readonly unknown[]): Promise<readonly NamedSink[]> {
    return resolveSinksBy(label, refs, async (option, name, token) => {
      let found: readonly unknown[];
      try {
        found = [...new Set<unknown>(this.moduleRef.get<unknown>(token as Type, { strict: false, each: true }))];
      } catch (cause) {
        throw unresolved(label, option, name, 'no module provides it: list it among the providers of one', cause);
      }
      if (found.length === 1) return found[0];
      throw unresolved(label, option, name, `${found.length} modules provide it: give the instance that you mean`);
    });
  }

  async emitter(label: string, type: EmitterClass): Promise<WindowEmitter> {
    requireInjectable(label, type);
    try {
      return await this.moduleRef.create(type as new () => WindowEmitter);
    } catch (cause) {
      throw new MinibatchError(
        ErrorCode.UnresolvedProvider,
        `${label}: the emitter ${type.name} can't be created: what its constructor injects must come from a global module`,
        { cause, details: { consumer: label, emitter: type.name } },
      );
    }
  }
}

function unresolved(label: string, option: string, token: string, why: string, cause?: unknown): MinibatchError {
  return new MinibatchError(ErrorCode.UnresolvedProvider, `${label}: ${option} ${token} can't be found: ${why}`, {
    details: { consumer: label, option, token },
    ...(cause === undefined ? {} : { cause }),
  });
}
