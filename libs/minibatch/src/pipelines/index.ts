export type { Aggregate, AnyAggregate } from '../flow/aggregates.js';
export type { FieldOrFunction } from '../flow/field-or-function.js';
export type { Aggregates } from './aggregate-parts.js';
export { from } from './flow.js';
export type { Flow, KeyedFlow, Outlet, WindowedFlow } from './flow.js';
export { Pipeline } from './pipeline.decorator.js';
export type { PipelineMethod } from './pipeline.decorator.js';
export type { BatchOptions, OutletOptions, PipelineOptions, StreamOutletOptions } from './pipeline.options.js';
export type {
  Bounds,
  CountWindowOptions,
  IntervalWindowOptions,
  Result,
  SessionWindowOptions,
  TimedWindowOptions,
  TimeOptions,
  KeyedWindows,
  WindowStepOptions,
} from './window.options.js';
