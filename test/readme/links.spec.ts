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

const withoutBlocks = (text: string) => text.replaceAll(/^ *(```+)[^]*?^ *\1 *$/gm, '');

/** Where headings can be linked to; the second of two with the same text has a number. */
function anchorsOf(text: string): readonly string[] {
  const seen = new Map<string, number>();
  return [...withoutBlocks(text).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => {
    const anchor = anchorOf(heading);
    const before = seen.get(anchor) ?? 0;
    seen.set(anchor, before + 1);
    return before === 0 ? anchor : `${anchor}-${before}`;
  });
}

/** What a page links to: inline, by reference and in HTML. Addresses of the web are left out, as is code. */
function targetsOf(text: string): readonly string[] {
  const prose = withoutBlocks(text).replaceAll(/`[^`\n]*`/g, '');
  const links = [
    /\]\(\s*(?:<([^>]*)>|([^)\s]+))/g,
    /^ *\[[^\]]+\]: +(?:<([^>]*)>|(\S+))/gm,
    /\b(?:href|src|srcset)="([^"]+)"/g,
  ];
  return links
    .flatMap((link) => [...prose.matchAll(link)].map(([, first, second]) => first ?? second ?? ''))
    .filter((target) => !/^(https?|mailto):/.test(target));
}

/** Links of a page that lead nowhere. */
async function deadLinks(page: string, text: string): Promise<readonly string[]> {
  const dead: string[] = [];
  for (const target of targetsOf(text)) {
    const [path = '', anchor] = target.split('#');
    const file = path === '' ? page : join(dirname(page), path);
    const exists = await access(repository(file)).then(
      () => true,
      () => false,
    );
    const content = () => (path === '' ? text : readFile(repository(file), 'utf8'));
    if (!exists || (anchor !== undefined && !anchorsOf(await content()).includes(anchor))) dead.push(target);
  }
  return dead;
}

describe('the links', () => {
  it.each(pages)('of %s lead somewhere', async (page) => {
    expect(await deadLinks(page, await readFile(repository(page), 'utf8'))).toEqual([]);
  });

  it('are reported if they do not, however they are written', async () => {
    const page = 'docs/guides/reading.md';
    const right = [
      '# A heading\n\n## Twice\n\n## Twice',
      '[a](#a-heading) [b](#twice-1) [c](stores.md "title") <a href="../README.md">d</a> [e][e] [f](https://none.invalid/f)',
      '[e]: ../python.md\n',
      '```bash\n# in code\n[code](none.md)\n```\n\n`[code](none.md)`',
    ].join('\n\n');
    const wrong = [
      ...['[a](none-a.md)', '[b](stores.md#none-b)', '[c](none-c.md "title")', '[d](<none d.md>)', '![e](none-e.svg)'],
      ...[
        '<a href="none-f.md">f</a>',
        '<img src="none-g.svg">',
        '[h](#in-code)',
        '[i](#twice-2)',
        '\n\n[j]: none-j.md\n',
      ],
    ];
    expect(await deadLinks(page, right)).toEqual([]);
    expect((await deadLinks(page, `${right}\n\n${wrong.join('\n')}`)).toSorted()).toEqual(
      [
        ...['none-a.md', 'stores.md#none-b', 'none-c.md', 'none d.md', 'none-e.svg'],
        ...['none-f.md', 'none-g.svg', '#in-code', '#twice-2', 'none-j.md'],
      ].toSorted(),
    );
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
