import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';

/** Below are the well-known ports, and those of servers that a developer may want to start meanwhile. */
const LOWEST = 10_240;
/** Random ports that may turn out to be taken. */
const TRIES = 100;

/**
 * The first port that the system gives to outgoing connections. Servers stay below it: while one is down for a restart, its port must
 * not go to a client. A client that keeps trying to reach the server may even get that very port, and connect to itself.
 */
function firstEphemeral() {
  try {
    return Number(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').trim().split(/\s+/)[0]);
  } catch {
    return 32_768;
  }
}

/** @param {number} port 0 for any @returns {Promise<import('node:net').Server>} */
function listen(port) {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}

/** Listens on a port that is free. @param {number} end ports from here on are not used */
async function listenSomewhere(end) {
  for (let tries = 0; tries < TRIES && end > LOWEST; tries += 1) {
    const port = LOWEST + Math.floor(Math.random() * (end - LOWEST));
    try {
      return await listen(port);
    } catch (error) {
      if (error.code !== 'EADDRINUSE' && error.code !== 'EACCES') throw error;
    }
  }
  return listen(0);
}

/** Ports that were free a moment ago: different ones, for they are held until all are found. @param {number} count */
export async function freePorts(count) {
  const end = firstEphemeral();
  const servers = await Promise.all(Array.from({ length: count }, () => listenSomewhere(end)));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

export const freePort = async () => (await freePorts(1))[0];
