import { afterAll, beforeAll } from 'vitest';
import { KafkaTools } from './kafka-tools.js';

/** A broker for all tests of the spec that imports this: it starts before the first one and stops after the last. */
// It is there once the first hook has run.
// oxlint-disable-next-line import/no-mutable-exports
export let tools: KafkaTools;
beforeAll(async () => {
  tools = await KafkaTools.start();
}, 120_000);
afterAll(() => tools.stop());
