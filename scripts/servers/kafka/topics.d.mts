import type { Admin, ITopicConfig } from 'kafkajs';

/** Creates topics, and resolves when the broker knows them. */
export function createTopics(admin: Admin, topics: readonly ITopicConfig[]): Promise<void>;
