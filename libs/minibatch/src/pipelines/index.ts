export { from } from './flow.js';
export type { Flow, Outlet } from './flow.js';
export { Pipeline } from './pipeline.decorator.js';
export type { PipelineMethod } from './pipeline.decorator.js';
export type {
  BatchOptions,
  FieldOrFunction,
  OutletOptions,
  PipelineOptions,
  StreamOutletOptions,
} from './pipeline.options.js';
