export { COLLECTION_NAMES, MODEL_NAMES, type CollectionNames } from './collections.js';
export { MongooseStreamStore, type MongooseStreamStoreOptions } from './mongoose.store.js';
export { BufferSchema, type BufferDocument } from './schemas/buffer.schema.js';
export { ConsumerSchema, type ConsumerDocument } from './schemas/consumer.schema.js';
export { DeadletterSchema, type DeadletterDocument } from './schemas/deadletter.schema.js';
export { StreamSchema, type StreamDocument } from './schemas/stream.schema.js';
export { WindowSchema, type WindowDocument } from './schemas/window.schema.js';
