export { from } from './flow.js';
export type { Flow, Outlet } from './flow.js';
export { Pipeline } from './pipeline.decorator.js';
export type { PipelineMethod } from './pipeline.decorator.js';
export type {
  BatchOptions,
  OutletOptions,
  PipelineOptions,
  StreamOutletOptions,
} from './pipeline.options.js';
export type { FieldOrFunction } from '../flow/field-or-function.js';
