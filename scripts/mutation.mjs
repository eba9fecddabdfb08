// `npm run test:mutation`: StrykerJS, which has a manifest of its own in tools/mutation, so that `npm ci` does not pay for it.
// It is installed on first use, and anew when its lock file has changed.
//
//   npm run test:mutation                                              every area, for hours
//   npm run test:mutation -- windows                                   one area
//   npm run test:mutation -- engine/committer.ts engine/lease-keeper.ts   some files of an area
//
// What begins with a dash, and all that follows it, goes to Stryker.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AREAS } from '../tools/mutation/areas.mjs';
import { isInstalled } from './is-installed.mjs';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
const FOLDER = join(ROOT, 'tools/mutation');
const SOURCES = 'libs/minibatch/src/';

/** @param {string} command @param {readonly string[]} args @param {string} cwd @param {NodeJS.ProcessEnv} [env] @returns {number} */
function run(command, args, cwd, env) {
  const { status, error } = spawnSync(command, args, { cwd, stdio: 'inherit', env: { ...process.env, ...env } });
  if (error) console.error(`${command} could not be started: ${error.message}`);
  return status ?? 1;
}

/** @param {readonly string[]} paths below `libs/minibatch/src` @returns {Map<string, readonly string[]>} areas and their files */
function chosen(paths) {
  /** @type {Map<string, string[]>} */
  const areas = new Map();
  for (const path of paths.length === 0 ? Object.keys(AREAS) : paths) {
    const area = path.endsWith('.ts') ? posix.dirname(path) : path;
    if (!(area in AREAS) || !existsSync(join(ROOT, SOURCES, path))) {
      console.error(`${SOURCES}${path} is not there or in no area that is mutated: ${Object.keys(AREAS).join(', ')}.`);
      process.exit(1);
    }
    const files = areas.get(area) ?? [];
    areas.set(area, [...files, path.endsWith('.ts') ? path : `${path}/*.ts`]);
  }
  return areas;
}

/** @param {string} area @param {readonly string[]} files @param {readonly string[]} args */
function mutate(area, files, args) {
  const reports = join(FOLDER, 'reports', area.replace('/', '-'));
  const config = JSON.parse(readFileSync(join(FOLDER, 'stryker.config.json'), 'utf8'));
  config.mutate = [
    ...files.map((file) => `${SOURCES}${file}`),
    ...['spec', 'spec.support', 'interface'].map((kind) => `!${SOURCES}**/*.${kind}.ts`),
  ];
  config.incrementalFile = join(reports, 'incremental.json');
  config.htmlReporter = { fileName: join(reports, 'mutation.html') };
  config.jsonReporter = { fileName: join(reports, 'mutation.json') };
  mkdirSync(reports, { recursive: true });
  const path = join(reports, 'stryker.config.json');
  writeFileSync(path, JSON.stringify(config, undefined, 2));
  const stryker = join(FOLDER, 'node_modules/@stryker-mutator/core/bin/stryker.js');
  return run(process.execPath, [stryker, 'run', path, ...args], ROOT, { MINIBATCH_MUTATION_AREA: area });
}

const options = process.argv.slice(2);
const firstOption = options.findIndex((each) => each.startsWith('-'));
const paths = firstOption < 0 ? options : options.slice(0, firstOption);
const areas = chosen(paths);
if (!isInstalled(FOLDER)) process.exitCode = run('npm', ['ci'], FOLDER);
if (!process.exitCode) {
  for (const [area, files] of areas) {
    const exitCode = mutate(area, files, options.slice(paths.length));
    process.exitCode ||= exitCode;
  }
}
