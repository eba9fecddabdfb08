export type { MqttConnectionOptions } from './mqtt-connection.options.js';
export type { MqttMessage } from './mqtt-message.js';
export { type MqttSourceCounters, MqttSource } from './mqtt.source.js';
export type { MqttSourceOptions, UnstorablePolicy } from './mqtt-source.options.js';
export { MqttSink } from './mqtt.sink.js';
export type { FailedPublish } from './publisher.js';
export type { MqttSinkOptions } from './mqtt-sink.options.js';
export type { LargeIntegers } from '../../common/json-reader.js';
