import { dirname, posix } from 'node:path';
import { defineConfig } from 'vitepress';

/**
 * The pages of `docs/` as a site. Links that leave `docs/` lead to files of the repository, which has no address here: what they say
 * stays, without the link. All others are checked by the build.
 *
 * @param {import('vitepress').MarkdownRenderer} markdown
 */
function keepLinksInside(markdown) {
  markdown.core.ruler.push('links-inside', ({ tokens, env }) => {
    const folder = dirname(env.relativePath ?? '');
    for (const { children } of tokens) {
      let isOutside = false;
      for (const token of children ?? []) {
        if (token.type === 'link_open') {
          const href = token.attrGet('href') ?? '';
          isOutside = !/^(?:[a-z]+:|#)/.test(href) && posix.normalize(posix.join(folder, href)).startsWith('..');
        }
        if (!isOutside || !token.type.startsWith('link_')) continue;
        if (token.type === 'link_close') isOutside = false;
        Object.assign(token, { type: token.type.replace('link', 'span'), tag: 'span', attrs: null });
      }
    }
  });
}

const guides = {
  Producing: 'producing',
  Consuming: 'consuming',
  Windows: 'windows',
  'Failures and dead letters': 'failures',
  'Reading a stream': 'reading',
  'Sources and sinks': 'sources-and-sinks',
  Stores: 'stores',
  LMDB: 'lmdb',
  Pipelines: 'pipelines',
  Executors: 'executors',
  PostgreSQL: 'postgres',
  'Writing a store': 'writing-a-store',
  Testing: 'testing',
  Operations: 'operations',
  'Several replicas': 'scaling',
  Deployment: 'deployment',
  Versions: 'versions',
  Recipes: 'recipes',
};
const reference = { Options: 'options', 'Error codes': 'errors', Status: 'status', Values: 'values' };
const adapters = {
  Kafka: 'kafka',
  MQTT: 'mqtt',
  Celery: 'celery',
  'omega|ml': 'omegaml',
  'Nest transports': 'microservices',
  Performance: 'speed',
};
const internals = {
  Architecture: 'architecture',
  Glossary: 'glossary',
  Storage: 'storage',
  'Windows by key': 'keyed-windows',
  'Testing the module': 'testing',
  'Crash tests': 'crash-tests',
  Benchmarks: 'benchmarks',
  Performance: 'performance',
};

/** @param {string} text @param {string} folder @param {Readonly<Record<string, string>>} pages */
const group = (text, folder, pages) => ({
  text,
  collapsed: false,
  items: Object.entries(pages).map(([title, page]) => ({ text: title, link: `/${folder}/${page}` })),
});

export default defineConfig({
  title: 'nestjs-minibatch',
  description: 'Durable mini-batch streaming for NestJS',
  srcDir: '.content',
  outDir: 'dist',
  cacheDir: '.cache',
  rewrites: { 'README.md': 'index.md' },
  lastUpdated: false,
  markdown: { config: keepLinksInside },
  themeConfig: {
    search: { provider: 'local' },
    outline: [2, 3],
    nav: [
      { text: 'Guides', link: '/guides/consuming' },
      { text: 'Reference', link: '/reference/options' },
      { text: 'API', link: '/api/index.html', target: '_self' },
    ],
    sidebar: [
      group('Guides', 'guides', guides),
      { text: 'Coming from Python', link: '/python' },
      group('Reference', 'reference', reference),
      group('Adapters', 'adapters', adapters),
      group('Internals', 'internals', internals),
    ],
  },
});
