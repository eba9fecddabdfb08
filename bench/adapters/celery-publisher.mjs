/**
 * The workers of `celery.mjs`: `<url of Redis> <events> <events in a body>`. Told 'prepare' it makes events and says 'prepared'; told
 * 'publish' it sends them.
 */
import { Redis } from 'ioredis';
import { celeryBodies } from './lib/celery-bodies.mjs';

const [url, count, each] = process.argv.slice(2);
const redis = new Redis(url);
let pipeline;
process.on('message', (word) => {
  if (word === 'publish') return void pipeline.exec();
  pipeline = redis.pipeline();
  for (const body of celeryBodies(Number(count), Number(each))) {
    const envelope = { body: Buffer.from(body).toString('base64'), 'content-type': 'application/json' };
    const text = JSON.stringify({ ...envelope, properties: { body_encoding: 'base64' } });
    pipeline.publish('/0.celeryev/task.multi', text);
  }
  process.send('prepared');
});
process.on('disconnect', () => process.exit());
