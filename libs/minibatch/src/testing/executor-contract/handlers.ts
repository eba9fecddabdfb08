import { Injectable, Module } from '@nestjs/common';
import { Streaming } from '../../consumers/streaming.decorator.js';
import { RejectMessages } from '../../errors/minibatch.error.js';
import type { Window } from '../../windows/window.js';

/** The stream of the contract's consumers; their groups are the names of the methods. */
export const CONTRACT_STREAM = 'executor-contract';

const as = (group: string) => ({ size: 100, group });

/** What the contract has an executor run. Workers must have all of it. */
@Injectable()
export class ContractHandlers {
  @Streaming(CONTRACT_STREAM, as('echo'))
  echo({ data }: Window): unknown {
    return data[0];
  }

  @Streaming(CONTRACT_STREAM, as('look'))
  look(window: Window): unknown {
    const { id, stream, group, attempt, late, start, end, part, split, data, messages } = window;
    return { id, stream, group, attempt, late, start, end, part, split, data, messages };
  }

  @Streaming(CONTRACT_STREAM, as('throwError'))
  throwError({ data }: Window): never {
    throw Object.assign(new RangeError(`no ${String(data[0])}`), { code: 'E_RANGE' });
  }

  @Streaming(CONTRACT_STREAM, as('throwText'))
  throwText({ data }: Window): never {
    throw data[0];
  }

  @Streaming(CONTRACT_STREAM, as('rejectOdd'))
  rejectOdd(window: Window): number {
    const odd = oddOf(window);
    for (const message of odd) window.reject(message, new Error(`odd: ${String(message.data)}`));
    return window.data.length - odd.length;
  }

  @Streaming(CONTRACT_STREAM, as('throwOdd'))
  throwOdd(window: Window): never {
    throw new RejectMessages(oddOf(window).map((message) => ({ message, reason: 'odd' })));
  }

  @Streaming(CONTRACT_STREAM, as('rejectForeign'))
  rejectForeign(window: Window): void {
    window.reject({ id: 'nowhere', data: 1, created: new Date(0) }, 'foreign');
  }

  /** Ends when its signal aborts. */
  @Streaming(CONTRACT_STREAM, as('hang'))
  async hang({ signal }: Window): Promise<void> {
    if (signal.aborted) return;
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  }

  @Streaming(CONTRACT_STREAM, as('returnFunction'))
  returnFunction(): unknown {
    return { callback: () => undefined };
  }

  @Streaming(CONTRACT_STREAM, as('returnMuch'))
  returnMuch(): unknown {
    return 'x'.repeat(3 * 1024 * 1024);
  }
}

/** What workers boot that are to pass the contract. */
@Module({ providers: [ContractHandlers] })
export class ExecutorContractModule {}

function oddOf(window: Window) {
  return window.messages.filter(({ data }) => typeof data === 'number' && data % 2 === 1);
}
