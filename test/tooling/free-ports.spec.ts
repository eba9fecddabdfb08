import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { freePorts } from '../../scripts/servers/free-ports.mjs';

it('servers of tests get different ports, which no outgoing connection gets while they are down', async () => {
  const range = await readFile('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').catch(() => '32768 60999');
  const ports = await freePorts(20);
  expect(new Set(ports).size).toBe(20);
  expect(Math.max(...ports)).toBeLessThan(Number.parseInt(range, 10));
});
