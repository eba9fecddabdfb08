export { KafkaSource } from './kafka.source.js';
export type { KafkaSourceOptions, MalformedPolicy, UnstorablePolicy } from './kafka-source.options.js';
export type { KafkaSourceCounts } from './record-counts.js';
export { type KafkaRecord, RECORD_HEADERS } from './kafka-record.js';
export type { RecordFormat } from './record-format.js';
export type { KafkaRef } from './kafka-client.js';
export { type FailedRecord, KafkaSink } from './kafka.sink.js';
export type { KafkaCompression, KafkaSinkOptions, KafkaValue } from './kafka-sink.options.js';
export type { LargeIntegers } from '../../common/json-reader.js';
