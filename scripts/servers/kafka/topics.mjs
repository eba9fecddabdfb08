import { setTimeout as delay } from 'node:timers/promises';

/** How often the broker is asked for topics that it does not know yet; milliseconds. */
const EVERY = 20;

/**
 * Creates topics, and resolves when the broker knows them.
 *
 * kafkajs's `waitForLeaders` is no help: it fails if the broker has not heard of the topic yet from the controller, which has just made it.
 */
export async function createTopics(admin, topics) {
  await admin.createTopics({ topics, waitForLeaders: false });
  for (;;) {
    const known = await admin.listTopics();
    if (topics.every(({ topic }) => known.includes(topic))) return;
    await delay(EVERY);
  }
}
