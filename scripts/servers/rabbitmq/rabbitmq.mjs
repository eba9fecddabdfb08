import { readdir, realpath, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { startChild } from '../child.mjs';
import { makeCertificates } from '../certificates.mjs';
import { freePorts } from '../free-ports.mjs';
import { ownServer } from '../own-server.mjs';
import { needTool } from '../programs.mjs';

const LIBRARY = '/usr/lib/rabbitmq/lib';

/** RabbitMQ without plugins, with a name, ports, a cookie and a port mapper of its own. Dies with this process. */
export async function startRabbitmq({ port, dir, tls = false } = {}) {
  const [erl, epmd, program] = await needTool('rabbitmq', 'RabbitMQ');
  const home = await rabbitHome(program);
  const [free, distribution, mapperPort, tlsPort] = await freePorts(4);
  const own = port ?? free;
  // Its own: what RabbitMQ would start for itself is a daemon that nobody stops.
  const mapper = await startChild(epmd, ['-d', '-port', String(mapperPort), '-address', '127.0.0.1'], {
    ready: /epmd running/,
  });
  const stopMapper = async () => {
    mapper.kill('SIGKILL');
    await mapper.exited;
  };
  let certificates;
  const start = async ({ dir: data, temporary }) => {
    if (tls) certificates ??= await makeCertificates(data);
    const files = await writeConfiguration(data, { port: own, tlsPort, certificates });
    const environment = environmentOf({ home, data, files, port: own, mapperPort, distribution });
    // `env` and `erl` become the server itself: a signal to what was started reaches it, and nothing is left behind.
    return startChild(
      '/usr/bin/env',
      [
        ...Object.entries(environment).map(([name, value]) => `${name}=${value}`),
        ...[erl, '-noinput', '-s', 'rabbit', 'boot', '-boot', 'start_sasl', '+W', 'w', '+sbwt', 'none'],
        ...['+sbwtdcpu', 'none', '+sbwtdio', 'none', '-start_epmd', 'false', '-syslog', 'logger', '[]'],
        ...['-syslog', 'syslog_error_logger', 'false', '-kernel', 'prevent_overlapping_partitions', 'false'],
      ],
      { ready: /Server startup complete/, temporary },
    );
  };
  const server = await ownServer('rabbitmq', dir, start).catch(async (error) => {
    await stopMapper();
    throw error;
  });
  const { stop } = server;
  return Object.defineProperties(server, {
    url: { value: `amqp://guest:guest@127.0.0.1:${own}`, enumerable: true },
    tlsUrl: { value: tls ? `amqps://guest:guest@127.0.0.1:${tlsPort}` : undefined, enumerable: true },
    ca: { value: certificates?.authority, enumerable: true },
    port: { value: own, enumerable: true },
    label: { value: `rabbitmq-server (${home})`, enumerable: true },
    stop: {
      value: async () => {
        await stop();
        await stopMapper();
      },
    },
  });
}

/** Resolves with the paths of what it has written. */
async function writeConfiguration(data, { port, tlsPort, certificates }) {
  const files = { config: join(data, 'rabbitmq.conf'), plugins: join(data, 'enabled_plugins') };
  const lines = [
    `listeners.tcp.1 = 127.0.0.1:${port}`,
    ...(certificates
      ? [
          `listeners.ssl.1 = 127.0.0.1:${tlsPort}`,
          `ssl_options.certfile = ${certificates.certificate}`,
          `ssl_options.keyfile = ${certificates.key}`,
        ]
      : []),
    ...['log.console = true', 'log.console.level = info', 'log.file = false', ''],
  ];
  await writeFile(files.config, lines.join('\n'));
  await writeFile(files.plugins, '[].\n');
  return files;
}

function environmentOf({ home, data, files, port, mapperPort, distribution }) {
  return {
    HOME: data,
    ERL_EPMD_PORT: mapperPort,
    ERL_EPMD_ADDRESS: '127.0.0.1',
    ERL_LIBS: join(home, 'plugins'),
    ERL_MAX_ETS_TABLES: 50_000,
    SYS_PREFIX: '',
    RABBITMQ_NODENAME: `minibatch-${port}@localhost`,
    RABBITMQ_HOME: home,
    RABBITMQ_PLUGINS_DIR: join(home, 'plugins'),
    RABBITMQ_CONF_ENV_FILE: '/dev/null',
    RABBITMQ_CONFIG_FILE: files.config,
    RABBITMQ_MNESIA_BASE: join(data, 'mnesia'),
    RABBITMQ_LOG_BASE: join(data, 'log'),
    RABBITMQ_ENABLED_PLUGINS_FILE: files.plugins,
    RABBITMQ_DIST_PORT: distribution,
  };
}

/** The folder that holds RabbitMQ's Erlang code: Debian's, in the system or in the cache, or the one that the program lies in. */
async function rabbitHome(program) {
  for (const library of [join(dirname(program), '../root', LIBRARY), LIBRARY]) {
    const versions = (await readdir(library).catch(() => [])).filter((name) => name.startsWith('rabbitmq_server'));
    const found = versions.toSorted().at(-1);
    if (found) return join(library, found);
  }
  return dirname(dirname(await realpath(program)));
}
