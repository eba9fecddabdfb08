import { access, readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { repository } from '../support/workspace.js';

const pages = [
  'README.md',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  ...(await readdir(repository('docs'), { recursive: true })).map((page) => join('docs', page)),
].filter((page) => page.endsWith('.md'));

/** As GitHub makes them of headings. */
const anchorOf = (heading: string) =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
    .trim()
    .replaceAll(' ', '-');

describe('the links', () => {
  it.each(pages)('of %s lead somewhere', async (page) => {
    const text = await readFile(repository(page), 'utf8');
    const dead: string[] = [];
    for (const [, target = ''] of text.matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? page : join(dirname(page), path);
      const exists = await access(repository(file)).then(
        () => true,
        () => false,
      );
      const headings = () =>
        readFile(repository(file), 'utf8').then((content) =>
          [...content.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => anchorOf(heading)),
        );
      if (!exists || (anchor !== undefined && !(await headings()).includes(anchor))) dead.push(target);
    }
    expect(dead).toEqual([]);
  });
});

describe('the pages of docs', () => {
  const found = pages.filter((page) => page.startsWith('docs/') && page !== 'docs/README.md');

  it('are all in the index, and in the menu of the site', async () => {
    const index = await readFile(repository('docs/README.md'), 'utf8');
    const menu = await readFile(repository('tools/site/.vitepress/config.mjs'), 'utf8');
    const missing = found.filter((page) => {
      const path = page.replace('docs/', '');
      const isReport = path.startsWith('benchmarks');
      return (
        !index.includes(`](${path})`) ||
        !(isReport || menu.includes(`'${basename(path, '.md')}'`) || menu.includes(`'/${path.replace('.md', '')}'`))
      );
    });
    expect(missing).toEqual([]);
  });
});
