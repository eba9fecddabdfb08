import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { durabilityOf, openMongo } from '../lib/mongo.mjs';

const SCRIPT = fileURLToPath(new URL('python_minibatch.py', import.meta.url));

/** The library that this one is modelled on, in a process of its own. It appends one by one and has no other way. */
export default {
  name: 'python-minibatch',
  label: 'Python minibatch 0.6.0, MongoDB',
  needs: ['mongo', 'python'],
  durability: ({ mongo }) => durabilityOf(mongo),
  // It sleeps 10 ms between windows.
  scale: ({ size = 1 }) => Math.min(0.1, size / 100),
  packages: [],
  without: ['latency', 'both', 'streams', 'idle', 'startup', 'memory'],

  async open({ servers, streams: [stream], clear, size, groups, onWindow }) {
    const { connection, name } = await openMongo(servers.mongo, 'python', { clear });
    const buffer = connection.collection('buffer');
    const { python, env } = servers.python;
    const url = new URL(servers.mongo.uri);
    url.pathname = `/${name}`;
    const child = spawn(python, [SCRIPT, url.href, stream], {
      env: { ...process.env, ...env, PYTHONWARNINGS: 'ignore' },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    let problem = '';
    child.stderr.on('data', (chunk) => (problem = (problem + chunk).slice(-4000)));
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const answer = async () => {
      const { value, done } = await lines.next();
      if (done) throw new Error(`Python ended: ${problem}`);
      return JSON.parse(value);
    };
    const order = (what) => {
      child.stdin.write(`${JSON.stringify(what)}\n`);
      return answer();
    };
    await answer();
    let drained = Promise.resolve();
    return {
      /** All of them, in Python's own loop: what is between two calls is not to be ours. */
      appendInOrder: (messages) =>
        order({ do: 'append', first: messages[0].n, count: messages.length, bytes: messages[0].text.length }),
      async fill(messages) {
        const documents = messages.map((data) => ({ stream, created: new Date(), data, processed: false }));
        await buffer.insertMany(documents);
      },
      start: async () => {
        const total = await buffer.countDocuments();
        drained = order({ do: 'drain', size, total }).then(({ seen }) =>
          onWindow(
            groups[0],
            seen.map((n) => ({ n })),
          ),
        );
      },
      settled: () => drained,
      left: () => buffer.countDocuments(),
      async close() {
        child.stdin.end();
        if (child.exitCode === null) await once(child, 'exit');
        await connection.close();
      },
    };
  },
};
