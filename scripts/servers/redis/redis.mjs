import { startChild } from '../child.mjs';
import { makeCertificates } from '../certificates.mjs';
import { freePorts } from '../free-ports.mjs';
import { ownServer } from '../own-server.mjs';
import { needTool } from '../programs.mjs';

/** A redis-server that writes every command to disk. Dies with this process. */
export async function startRedis({ port, dir, password, tls = false, fsync = 'always' } = {}) {
  const [program] = await needTool('redis', 'Redis');
  const [free, tlsPort] = await freePorts(2);
  const own = port ?? free;
  let certificates;
  const server = await ownServer('redis', dir, async ({ dir: data, temporary }) => {
    const args = ['--bind', '127.0.0.1', '--port', String(own), '--dir', data, '--save', ''];
    args.push('--appendonly', 'yes', '--appendfsync', fsync);
    if (tls) {
      certificates ??= await makeCertificates(data);
      args.push('--tls-port', String(tlsPort), '--tls-auth-clients', 'no', '--tls-ca-cert-dir', data);
      args.push('--tls-cert-file', certificates.certificate, '--tls-key-file', certificates.key);
    }
    if (password) args.push('--requirepass', password);
    return startChild(program, args, { ready: /Ready to accept connections/, temporary });
  });
  const user = password ? `:${encodeURIComponent(password)}@` : '';
  return Object.defineProperties(server, {
    url: { value: `redis://${user}127.0.0.1:${own}/0`, enumerable: true },
    tlsUrl: { value: tls ? `rediss://${user}127.0.0.1:${tlsPort}/0` : undefined, enumerable: true },
    ca: { value: certificates?.authority, enumerable: true },
    port: { value: own, enumerable: true },
    label: { value: `redis-server (${program})`, enumerable: true },
  });
}
