import 'reflect-metadata';
import { checkName } from '../common/checks.js';
import { noteDecorated, pipes } from '../definitions/decorated-classes.js';
import { requireMethod, requireParentheses } from '../definitions/decorated-method.js';
import type { Outlet } from './flow.js';
import type { PipelineOptions } from './pipeline.options.js';

/** One use of the decorator. The options are as given: they are validated at boot, where the error can name the pipeline. */
export interface PipelineEntry {
  readonly name: string;
  readonly options: unknown;
}

const PIPELINE = 'minibatch:pipeline';

/** What the decorator accepts: a method without parameters that returns where its flows end. */
export type PipelineMethod = <M extends () => Outlet | readonly Outlet[]>(
  target: object,
  propertyKey: string | symbol,
  descriptor: TypedPropertyDescriptor<M>,
) => void;

/**
 * Declares a pipeline: the method of a provider is called once at boot and returns the outlets of its flows. Each source stream then has
 * one consumer, whose group is the pipeline's name. All that a pipeline appends for a batch of messages is committed together with it: exactly once.
 *
 * @param name unique in the application. Progress and dead letters are stored under it, so it outlives a renamed class
 * @example
 * ```ts
 * @Injectable()
 * export class Delays {
 *   @Pipeline('delays')
 *   delays() {
 *     return from(Flights).filter(({ delay }) => delay >= 15).to(LateFlights, { key: 'origin' });
 *   }
 * }
 * ```
 */
export function Pipeline(name: string, options: PipelineOptions = {}): PipelineMethod {
  requireParentheses('@Pipeline', "@Pipeline('name')", name, options);
  return (target, propertyKey, descriptor) => {
    const label = requireMethod('@Pipeline', 'name() { … }', target, propertyKey, descriptor);
    const entry: PipelineEntry = { name: checkName(label, 'name', name), options };
    noteDecorated(target, target.constructor.name, 'consumer', pipes(label, name));
    const own = Reflect.getOwnMetadata(PIPELINE, target, propertyKey) as readonly PipelineEntry[] | undefined;
    Reflect.defineMetadata(PIPELINE, [entry, ...(own ?? [])], target, propertyKey);
  };
}

/** The uses of the decorator on a method, those of the nearest class that has any; in the order they are written. */
export function pipelineEntriesOf(prototype: object, method: string): readonly PipelineEntry[] {
  return (Reflect.getMetadata(PIPELINE, prototype, method) as readonly PipelineEntry[] | undefined) ?? [];
}
