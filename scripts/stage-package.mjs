/**
 * Copies what the tarball holds besides the build and the sources into the package's folder: the README and all that it and the
 * documentation link to. npm runs it before it packs.
 *
 * Several tests may pack at the same time. So a file is replaced as a whole, and only if it differs.
 */
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
const PACKAGE = join(ROOT, 'libs/minibatch');
const SHIPPED = [
  'README.md',
  'LICENSE',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'docs',
  'examples',
  'apps/example/package.json',
  'apps/example/src',
];

/** The files of a path, which may be a file itself, relative to the folder. */
async function filesOf(folder, path) {
  const entries = await readdir(join(folder, path), { recursive: true, withFileTypes: true }).catch((error) => {
    if (error.code === 'ENOTDIR') return undefined;
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  if (entries === undefined) return [path];
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .filter((file) => !/(^|\/)(node_modules|dist|\.data)\//.test(file));
}

const draft = await mkdtemp(join(PACKAGE, '.staging-'));
try {
  const staged = new Set((await Promise.all(SHIPPED.map((path) => filesOf(ROOT, path)))).flat());
  for (const file of staged) {
    const content = await readFile(join(ROOT, file));
    const target = join(PACKAGE, file);
    const before = await readFile(target).catch(() => undefined);
    if (before?.equals(content)) continue;
    const written = join(draft, 'file');
    await writeFile(written, content);
    await mkdir(dirname(target), { recursive: true });
    await rename(written, target);
  }
  // What an earlier version had.
  for (const folder of ['docs', 'examples', 'apps']) {
    for (const file of await filesOf(PACKAGE, folder))
      if (!staged.has(file)) await rm(join(PACKAGE, file), { force: true });
  }
} finally {
  await rm(draft, { recursive: true, force: true });
}
