import type { Untyped } from '../flow/aggregates.js';
import type { AnyFieldOrFunction } from '../flow/field-or-function.js';
import type { SinkRef } from '../sinks/sink-ref.js';
import type { StreamSettings } from '../definitions/stream-settings.js';
import type { Message } from '../windows/message.js';
import type { OutletOptions } from './pipeline.options.js';

/** A function of the application, as it is called with a message. */
export type StepFunction = (data: unknown, message: Message) => unknown;

/** What one step of a flow does. */
export type Work =
  | { readonly kind: 'from'; readonly stream: string; readonly settings?: StreamSettings }
  | { readonly kind: 'filter' | 'map' | 'flatMap' | 'tap'; readonly fn: StepFunction }
  /** Finds the way that a message takes; its children are ways. */
  | { readonly kind: 'branch'; readonly tests: ReadonlyMap<string, StepFunction> }
  | { readonly kind: 'way'; readonly name: string }
  | { readonly kind: 'merge' }
  /** What follows has a time of its own. */
  | { readonly kind: 'timed'; readonly of: AnyFieldOrFunction; readonly options: object }
  /** Puts into windows by key; its children are aggregates and the flow of what came too late. */
  | WindowsWork
  /** Results of windows. */
  | { readonly kind: 'aggregate'; readonly aggregate: Untyped }
  | { readonly kind: 'late' };

export interface WindowsWork {
  readonly kind: 'windows';
  readonly by: AnyFieldOrFunction;
  /** As given: it is checked at boot, where the error can name the pipeline. */
  readonly windows: object;
  readonly options: object;
}

/** A step and what comes before it. Nothing is known of what comes after it: a flow may be used more than once. */
export interface FlowNode {
  readonly work: Work;
  readonly before: readonly FlowNode[];
}

/** Where a flow ends. */
export type Target =
  | {
      readonly kind: 'stream';
      readonly stream: string;
      readonly settings?: StreamSettings;
      /** A field of the data, or a function of it. */
      readonly key?: AnyFieldOrFunction;
    }
  | { readonly kind: 'sink'; readonly sink: SinkRef };

const OUTLET = Symbol.for('nestjs-minibatch:outlet');

/** What `to` and `into` return, as the package sees it. */
export class FlowOutlet {
  /** Told by a well-known symbol, for there may be two copies of the package. */
  readonly [OUTLET] = true;

  constructor(
    readonly node: FlowNode,
    readonly target: Target,
    readonly options: OutletOptions,
  ) {}
}

export function isOutlet(value: unknown): value is FlowOutlet {
  return typeof value === 'object' && value !== null && OUTLET in value;
}
