import { startChild } from '../child.mjs';
import { freePorts } from '../free-ports.mjs';
import { ownServer } from '../own-server.mjs';
import { needPrograms } from '../programs.mjs';

/** A redis-server that writes every command to disk. Dies with this process. */
export async function startRedis({ port, dir, password, fsync = 'always' } = {}) {
  const [program] = await needPrograms(['redis-server'], ['redis-server']);
  const own = port ?? (await freePorts(1))[0];
  const server = await ownServer('redis', dir, ({ dir: data, temporary }) => {
    const args = ['--bind', '127.0.0.1', '--port', String(own), '--dir', data, '--save', ''];
    args.push('--appendonly', 'yes', '--appendfsync', fsync);
    if (password) args.push('--requirepass', password);
    return startChild(program, args, { ready: /Ready to accept connections/, temporary });
  });
  return Object.defineProperties(server, {
    url: {
      value: `redis://${password ? `:${encodeURIComponent(password)}@` : ''}127.0.0.1:${own}/0`,
      enumerable: true,
    },
    port: { value: own, enumerable: true },
    label: { value: `redis-server (${program})`, enumerable: true },
  });
}
