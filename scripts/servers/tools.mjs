/**
 * What tests start that is no package of npm, and how to get it.
 *
 * @typedef {object} Tool
 * @property {readonly string[]} programs
 * @property {readonly string[]} debian packages of Debian and Ubuntu that hold them
 * @property {string} brew
 */

/** @type {Readonly<Record<string, Tool>>} */
export const TOOLS = {
  mosquitto: { programs: ['mosquitto', 'mosquitto_passwd'], debian: ['mosquitto'], brew: 'mosquitto' },
  openssl: { programs: ['openssl'], debian: ['openssl'], brew: 'openssl' },
  redis: { programs: ['redis-server'], debian: ['redis-server'], brew: 'redis' },
  rabbitmq: { programs: ['erl', 'epmd', 'rabbitmq-server'], debian: ['rabbitmq-server'], brew: 'rabbitmq' },
  java: { programs: ['java', 'mvn'], debian: ['maven', 'default-jre-headless'], brew: 'openjdk maven' },
  python: { programs: ['python3'], debian: ['python3', 'python3-pip'], brew: 'python@3.11' },
  pip: { programs: ['pip3'], debian: ['python3-pip'], brew: 'python@3.11' },
  postgres: { programs: ['postgres', 'initdb'], debian: ['postgresql'], brew: 'postgresql@15' },
};

/** All tests with all servers in a container, on any machine with Docker. */
export const CONTAINER = 'docker run --rm -v "$PWD:/work" -w /work node:22-bookworm sh -c "npm ci && npm test"';

/**
 * One line: how a developer gets a tool.
 *
 * @param {Tool} tool
 * @param {{ platform: NodeJS.Platform, hasApt: boolean }} machine
 */
export function howToGet(tool, { platform, hasApt }) {
  if (platform === 'win32') return 'tests start it in WSL only (winget install Debian.Debian)';
  if (platform === 'darwin') return `brew install ${tool.brew}`;
  if (hasApt) return `apt-get install ${tool.debian.join(' ')}`;
  return `put ${tool.programs.join(' and ')} on PATH`;
}
