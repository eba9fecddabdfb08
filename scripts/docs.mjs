// `npm run docs`: the site of docs/, by VitePress, with an API reference by TypeDoc, into tools/site/dist. Their packages have a manifest of
// their own in tools/site, so that `npm ci` does not pay for them; they are installed on first use. A link that leads nowhere is an error.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, extname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isInstalled } from './is-installed.mjs';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
const SITE = join(ROOT, 'tools/site');
const BUILT = join(SITE, 'dist');

/** @param {string} command @param {readonly string[]} args */
function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: SITE, stdio: 'inherit' });
  if (error) console.error(`${command} could not be started: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

/** @param {string} name @param {string} file @param {...string} args */
const node = (name, file, ...args) => run(process.execPath, [join(SITE, 'node_modules', name, file), ...args]);

/** The sources of what the package exports. @returns {string[]} */
function entryPoints() {
  const folder = join(ROOT, 'libs/minibatch');
  /** @type {{ exports: Record<string, string | { types: string }> }} */
  const { exports } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  return Object.values(exports).flatMap((target) =>
    typeof target === 'string'
      ? []
      : [join(folder, target.types.replace('./dist/', 'src/').replace(/\.d\.ts$/, '.ts'))],
  );
}

/** Links and pictures of the built pages that lead to no file. @returns {string[]} */
function deadLinks() {
  const files = readdirSync(BUILT, { recursive: true, encoding: 'utf8' });
  return files
    .filter((file) => file.endsWith('.html') && file !== '404.html')
    .flatMap((file) => {
      const html = readFileSync(join(BUILT, file), 'utf8');
      const targets = [...html.matchAll(/(?:href|src)="([^"#?]+)[^"]*"/g)].map(([, target = '']) => decodeURI(target));
      return [...new Set(targets)]
        .filter((target) => !/^(?:[a-z]+:|\/\/)/.test(target))
        .filter((target) => {
          const path = target.startsWith('/') ? join(BUILT, target) : join(BUILT, dirname(file), target);
          const page = path.endsWith('/') ? join(path, 'index.html') : path;
          return !existsSync(page) && !(extname(page) !== '.html' && existsSync(`${page}.html`));
        })
        .map((target) => `${relative(BUILT, join(BUILT, file))}: ${target}`);
    });
}

if (!isInstalled(SITE)) run('npm', ['ci']);
rmSync(join(SITE, '.content'), { recursive: true, force: true });
cpSync(join(ROOT, 'docs'), join(SITE, '.content'), { recursive: true });
node('vitepress', 'bin/vitepress.js', 'build', '.');
node('typedoc', 'bin/typedoc', ...entryPoints());
const dead = deadLinks();
if (dead.length > 0) {
  console.error(`These links lead nowhere:\n${dead.join('\n')}`);
  process.exit(1);
}
console.log(`The site is in ${relative(ROOT, BUILT)}.`);
