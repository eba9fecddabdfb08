import { setTimeout as delay } from 'node:timers/promises';

/** How often the broker is asked for topics that it does not know yet; milliseconds. */
const EVERY = 20;

/**
 * Creates topics, and resolves when the broker takes records for each of their partitions.
 *
 * The broker lists a topic before it leads all of its partitions. A producer that sends to such a topic is refused for one partition
 * only, and kafkajs then sends the records of all partitions again: some would be in the topic twice. Offsets can be read from a
 * partition's leader only, so they tell when it is there. kafkajs's `waitForLeaders` is no help: it fails if the broker has not heard
 * of the topic yet from the controller, which has just made it.
 */
export async function createTopics(admin, topics) {
  await admin.createTopics({ topics, waitForLeaders: false });
  for (const { topic } of topics) {
    while (!(await isLed(admin, topic))) await delay(EVERY);
  }
}

/** Asking for the offsets of a topic that the broker does not know would take as long as kafkajs's retries. */
async function isLed(admin, topic) {
  if (!(await admin.listTopics()).includes(topic)) return false;
  return admin.fetchTopicOffsets(topic).then(
    () => true,
    () => false,
  );
}
