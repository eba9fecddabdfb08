import { startMongo } from '../../scripts/servers/mongo/mongo.mjs';
import { startPostgres } from '../../scripts/servers/postgres/postgres.mjs';
import { pythonWith } from '../../scripts/servers/python/venv.mjs';
import { startRedis } from '../../scripts/servers/redis/redis.mjs';

const STARTS = {
  mongo: () => startMongo({}),
  'redis-everysec': () => startRedis({ fsync: 'everysec' }),
  'redis-always': () => startRedis({ fsync: 'always' }),
  postgres: () => startPostgres({}),
  python: () => pythonWith('minibatch'),
};

/** Of the servers that run, or of what a run says of them. */
export const hasIndexes = ({ mongo }) => mongo?.supports?.indexes === true;

/**
 * Everything that the subjects need. What can't be had is in `missing`, with the reason.
 *
 * @param {Iterable<string>} names
 */
export async function bringUp(names, say) {
  const running = new Map();
  const missing = {};
  for (const name of new Set(names)) {
    say(`starting ${name}`);
    try {
      running.set(name, await STARTS[name]());
    } catch (error) {
      missing[name] = error.message.split('\n')[0];
    }
  }
  // What another process can be told.
  const addresses = Object.fromEntries(
    [...running].map(([name, { uri, url, kind, label, python, env, supports }]) => [
      name,
      { uri, url, kind, label, python, env, supports },
    ]),
  );
  return {
    addresses,
    missing,
    async stop() {
      for (const server of running.values()) await server.stop?.();
    },
  };
}
