import { access, chmod, constants, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startChild } from '../child.mjs';
import { freePorts } from '../free-ports.mjs';
import { needTool } from '../programs.mjs';
import { makeCertificates } from '../certificates.mjs';
import { accessPlugin, passwordFile } from './access.mjs';

/** See mosquitto.d.mts. */
export async function startMosquitto(options = {}) {
  const [program] = await needTool('mosquitto', 'MQTT');
  const dir = await mkdtemp(join(await base(), 'minibatch-mosquitto-'));
  try {
    return await start(program, dir, options);
  } catch (error) {
    await rm(dir, { recursive: true, force: true });
    throw error;
  }
}

/** In memory where there is such a folder: it syncs its state to disk at each change, and a kill takes nothing from a file in memory. */
async function base() {
  return access('/dev/shm', constants.W_OK).then(
    () => '/dev/shm',
    () => tmpdir(),
  );
}

async function start(program, dir, options) {
  await chmod(dir, 0o700);
  const { tls, webSockets } = options;
  const [plain, encrypted, ws, wss] = await freePorts(4);
  const ports = {
    plain: options.port ?? plain,
    tls: tls ? encrypted : undefined,
    ws: webSockets ? ws : undefined,
    wss: tls && webSockets ? wss : undefined,
  };
  const certificates = tls ? await makeCertificates(dir) : undefined;
  const file = join(dir, 'mosquitto.conf');
  await writeFile(file, (await configuration({ dir, ports, certificates, options })).join('\n'));
  const run = () => startChild(program, ['-c', file], { ready: /mosquitto version (\S+) running/, temporary: dir });
  let server = await run();
  const label = `mosquitto ${server.match[1]} (${program})`;
  let running = true;
  const end = async (signal) => {
    if (!running) return;
    running = false;
    server.kill(signal);
    // A signal between its "running" and its loop is forgotten.
    const again = setInterval(() => server.kill(signal), 1000);
    await server.exited;
    clearInterval(again);
  };
  return {
    url: `mqtt://127.0.0.1:${ports.plain}`,
    tlsUrl: ports.tls && `mqtts://127.0.0.1:${ports.tls}`,
    wsUrl: ports.ws && `ws://127.0.0.1:${ports.ws}`,
    wssUrl: ports.wss && `wss://127.0.0.1:${ports.wss}`,
    ca: certificates?.authority,
    port: ports.plain,
    label,
    get pid() {
      return running ? server.pid : undefined;
    },
    kill9: () => end('SIGKILL'),
    restart: async () => {
      await end('SIGTERM');
      server = await run();
      running = true;
    },
    stop: async () => {
      await end('SIGTERM');
      await rm(dir, { recursive: true, force: true });
    },
  };
}

async function configuration({ dir, ports, certificates, options }) {
  const { durable, users, forbidden, config = [] } = options;
  const listener = (port, ...lines) => (port ? [`listener ${port} 127.0.0.1`, ...lines] : []);
  const encrypted = certificates ? [`certfile ${certificates.certificate}`, `keyfile ${certificates.key}`] : [];
  return [
    // It gives up root for a user that does not see our folder.
    ...(process.getuid?.() === 0 ? ['user root'] : []),
    // What it writes to a pipe as stdout stays in a buffer.
    'log_dest stderr',
    'log_type error',
    'log_type warning',
    'log_type notice',
    'log_type information',
    'set_tcp_nodelay true',
    // The default of 1000 drops what a session can't hold, and acknowledges it all the same.
    'max_queued_messages 0',
    ...(durable
      ? ['persistence true', `persistence_location ${dir}/`, 'autosave_on_changes true', 'autosave_interval 1']
      : []),
    users ? 'allow_anonymous false' : 'allow_anonymous true',
    ...(users ? [`password_file ${await passwordFile(dir, users)}`] : []),
    ...(forbidden ? await accessPlugin(dir, forbidden) : []),
    ...listener(ports.plain, ...config),
    ...listener(ports.tls, ...encrypted),
    ...listener(ports.ws, 'protocol websockets'),
    ...listener(ports.wss, 'protocol websockets', ...encrypted),
    '',
  ];
}
