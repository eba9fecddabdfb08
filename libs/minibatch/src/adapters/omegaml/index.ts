// Read from and write to datasets of omega|ml
export { DatasetSink } from './dataset.sink.js';
export type { DatasetSinkOptions } from './dataset-sink.options.js';
export { DatasetSource } from './dataset.source.js';
export type { DatasetReading, DatasetSourceOptions } from './dataset-source.options.js';
export type { DatasetRef } from './dataset-ref.js';
export { DatasetKind } from './metadata.js';
