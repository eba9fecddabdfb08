import { Injectable, Module, type Type } from '@nestjs/common';
import { Streaming } from '../../consumers/streaming.decorator.js';
import { RejectMessages } from '../../errors/minibatch.error.js';
import type { Window } from '../../windows/window.js';

/** The stream of the contract's consumers; their groups are the names of the methods. */
export const CONTRACT_STREAM = 'executor-contract';

/** What the contract has an executor run. Workers must have all of it. */
export class ContractHandlers {
  echo({ data }: Window): unknown {
    return data[0];
  }

  look(window: Window): unknown {
    const { id, stream, group, partition, attempt, late, start, end, part, split, data, messages } = window;
    return { id, stream, group, partition, attempt, late, start, end, part, split, data, messages };
  }

  throwError({ data }: Window): never {
    throw Object.assign(new RangeError(`no ${String(data[0])}`), { code: 'E_RANGE' });
  }

  throwText({ data }: Window): never {
    throw data[0];
  }

  rejectOdd(window: Window): number {
    const odd = oddOf(window);
    for (const message of odd) window.reject(message, new Error(`odd: ${String(message.data)}`));
    return window.data.length - odd.length;
  }

  throwOdd(window: Window): never {
    throw new RejectMessages(oddOf(window).map((message) => ({ message, reason: 'odd' })));
  }

  rejectForeign(window: Window): void {
    window.reject({ id: 'nowhere', data: 1, created: new Date(0) }, 'foreign');
  }

  returnNothing(): void {}

  /** Ends when its signal aborts. */
  async hang({ signal }: Window): Promise<void> {
    if (signal.aborted) return;
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  }

  returnFunction(): unknown {
    return { callback: () => undefined };
  }

  returnMuch(): unknown {
    return 'x'.repeat(3 * 1024 * 1024);
  }
}

export type HandlerName = keyof ContractHandlers;

export const HANDLERS = Object.getOwnPropertyNames(ContractHandlers.prototype).filter(
  (name) => name !== 'constructor',
) as readonly HandlerName[];

let made: Type | undefined;

/**
 * What workers boot that are to pass the contract. Made when it is asked for: an application that has the class in no module would be
 * warned of it.
 */
export function executorContractModule(): Type {
  if (made) return made;
  const { prototype } = ContractHandlers;
  for (const group of HANDLERS) {
    const descriptor = Object.getOwnPropertyDescriptor(prototype, group) as TypedPropertyDescriptor<() => unknown>;
    Streaming(CONTRACT_STREAM, { size: 100, group })(prototype, group, descriptor);
  }
  Injectable()(ContractHandlers);
  class ExecutorContractModule {}
  Module({ providers: [ContractHandlers] })(ExecutorContractModule);
  made = ExecutorContractModule;
  return made;
}

function oddOf(window: Window) {
  return window.messages.filter(({ data }) => typeof data === 'number' && data % 2 === 1);
}
