import type { NamedSink } from '../engine/engine.interface.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { invalidOption } from '../common/checks.js';
import { isSink, sinkName } from '../sinks/sink-instance.js';
import { WindowEmitter } from '../windows/window-emitter.js';
import type { EmitterClass } from './streaming.options.js';

/** Where the sinks and the strategy of a consumer come from that is started at run time. */
export interface ConsumerScope {
  /** @throws MinibatchError `InvalidOptions`, `UnresolvedProvider` */
  sinks(label: string, refs: readonly unknown[]): Promise<readonly NamedSink[]>;
  /** @throws MinibatchError `UnresolvedProvider` */
  emitter(label: string, type: EmitterClass): Promise<WindowEmitter>;
}

/** Without injection: sinks are instances, and the constructor of a custom strategy takes no arguments. */
export const plainScope: ConsumerScope = {
  async sinks(label, refs) {
    return refs.map((ref, index) => {
      if (isSink(ref)) return { name: sinkName(ref), sink: ref };
      const option = refs.length === 1 ? 'sink' : `sink[${index}]`;
      throw invalidOption(label, option, ref, 'an object with put(): there is no injection here');
    });
  },

  async emitter(label, type) {
    let made: unknown;
    try {
      made = new (type as new () => WindowEmitter)();
    } catch (cause) {
      throw new MinibatchError(
        ErrorCode.UnresolvedProvider,
        `${label}: the constructor of the emitter ${type.name} threw; it is called without arguments, as there is no injection here`,
        { cause, details: { consumer: label, emitter: type.name } },
      );
    }
    if (made instanceof WindowEmitter) return made as WindowEmitter;
    throw new MinibatchError(ErrorCode.UnresolvedProvider, `${label}: ${type.name} did not create a WindowEmitter`);
  },
};
