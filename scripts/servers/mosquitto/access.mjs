import { execFile } from 'node:child_process';
import { access, readdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { needTool } from '../programs.mjs';

const run = promisify(execFile);
const PLUGIN = 'mosquitto_dynamic_security.so';

/** The path of a file with hashed passwords. */
export async function passwordFile(dir, users) {
  const [, program] = await needTool('mosquitto', 'MQTT');
  const file = join(dir, 'passwords');
  await writeFile(file, '', { mode: 0o600 });
  for (const [name, password] of Object.entries(users)) await run(program, ['-b', file, name, password]);
  return file;
}

/**
 * Lines of the configuration that refuse topics. By the plugin: an access file lets everything be subscribed, and keeps what may
 * not be read from coming.
 */
export async function accessPlugin(dir, forbidden) {
  const file = join(dir, 'access.json');
  const acls = forbidden.flatMap((topic) => [
    { acltype: 'subscribePattern', topic, allow: false, priority: 1 },
    { acltype: 'publishClientSend', topic, allow: false, priority: 1 },
  ]);
  const rules = {
    defaultACLAccess: { publishClientSend: true, publishClientReceive: true, subscribe: true, unsubscribe: true },
    clients: [],
    roles: [{ rolename: 'all', acls }],
    groups: [{ groupname: 'all', roles: [{ rolename: 'all' }], clients: [] }],
    anonymousGroup: 'all',
  };
  await writeFile(file, JSON.stringify(rules), { mode: 0o600 });
  return [`plugin ${await findPlugin()}`, `plugin_opt_config_file ${file}`];
}

/** Debian puts it into a folder named after the machine's architecture. */
async function findPlugin() {
  const [program] = await needTool('mosquitto', 'MQTT');
  // Packages unpacked into the cache have their programs next to their root.
  const bases = [join(dirname(program), '../root/usr/lib'), '/usr/lib'];
  const below = await Promise.all(
    bases.map(async (base) => (await readdir(base).catch(() => [])).map((name) => join(base, name))),
  );
  const folders = [...below.flat(), '/usr/lib64', '/usr/local/lib', join(dirname(program), '../lib')];
  for (const path of folders.map((folder) => join(folder, PLUGIN))) {
    const found = await access(path).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  throw new Error(`mosquitto has no ${PLUGIN} here`);
}
