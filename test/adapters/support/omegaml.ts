import { Double, EJSON, Int32, Long } from 'bson';
import { pythonWith } from '../../../scripts/servers/python/venv.mjs';
import { uriOf } from '../../e2e/support/applications.js';
import { NodeProcess } from '../../e2e/support/node-process.js';
import type { TestDatabase } from '../../support/mongo-server.js';
import { repository } from '../../support/workspace.js';

/** What Python's DataFrame of a dataset holds. */
export interface Frame {
  readonly columns: readonly string[];
  readonly dtypes: readonly string[];
  readonly names: readonly (string | null)[];
  readonly index: readonly unknown[];
  readonly rows: readonly Readonly<Record<string, unknown>>[];
}

/** The real omega|ml, on a database. */
export class OmegaMl {
  private answers = 0;

  private constructor(private readonly process: NodeProcess) {}

  static async start(database: TestDatabase): Promise<OmegaMl> {
    const { python, env, label } = await pythonWith('omegaml');
    console.log(`omega|ml for tests: ${label}`);
    const script = repository('test/fixtures/omegaml/datasets.py');
    const process = new NodeProcess(script, [uriOf(database)], { program: python, env });
    await process.line(/^ready$/);
    return new OmegaMl(process);
  }

  /** Numbers in the answer are JavaScript's; bigints where they do not fit. */
  async ask(command: Readonly<Record<string, unknown>>): Promise<unknown> {
    this.answers += 1;
    this.process.say(EJSON.stringify(command, { relaxed: false }));
    const line = await this.process.line(/^(answer|failed) /, this.answers);
    if (line.startsWith('failed')) throw new Error(line);
    return plain(EJSON.parse(line.slice('answer '.length), { relaxed: false }));
  }

  put(
    name: string,
    as: 'raw' | 'data' | 'frame',
    rows: readonly unknown[],
    more: { readonly index?: readonly string[] } = {},
  ): Promise<unknown> {
    return this.ask({ do: 'put', name, as, rows, ...more });
  }

  async frame(name: string): Promise<Frame> {
    return (await this.ask({ do: 'get', name })) as Frame;
  }

  async stop(): Promise<void> {
    await this.process.kill();
  }
}

function plain(value: unknown): unknown {
  if (value instanceof Long) return Number.isSafeInteger(value.toNumber()) ? value.toNumber() : value.toBigInt();
  if (value instanceof Int32 || value instanceof Double) return value.valueOf();
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== 'object' || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([key, property]) => [key, plain(property)]));
}
