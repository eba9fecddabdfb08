import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openDatabase } from '../support/mongo-server.js';
import { openSchema } from '../support/postgres-server.js';
import { temporaryFolder } from '../support/workspace.js';
import { ExampleProcess } from './example-process.js';

const SUMS_20K = [20000, 154078, 14476934];
const SUMS_200K = [200000, 1500159, 145847125];
const SUMS = [220000, 1654237, 160324059];

/** A progress line: something is done, and not yet all. */
const PROGRESS = /^[1-9]\d* of \d+ flights reported/m;
const BEFORE = /^[1-9]\d* were reported before/m;

/** What the table says: three sums a line, by the first word of the line. */
function sums(output: string): Record<string, number[][]> {
  const rows: Record<string, number[][]> = {};
  for (const line of output.split('\n')) {
    const found = /^\s*(\S.*?\s)?(\S+)\s+(\d+)\s+(-?\d+)\s+(\d+)$/.exec(line);
    if (found) (rows[found[2] as string] ??= []).push(found.slice(3).map(Number));
  }
  return rows;
}

const ALL = {
  'flights-20k': [SUMS_20K, SUMS_20K],
  'flights-200k': [SUMS_200K, SUMS_200K],
  all: [SUMS, SUMS],
};
const ONLY_20K = { 'flights-20k': [SUMS_20K, SUMS_20K], all: [SUMS_20K, SUMS_20K] };

describe('example', { timeout: 300_000 }, () => {
  const running: ExampleProcess[] = [];
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;

  beforeEach(async () => {
    folder = await temporaryFolder();
  });

  afterEach(async () => {
    await Promise.all(running.splice(0).map((example) => example.kill('SIGKILL')));
    await folder.dispose();
  });

  const start = (args: readonly string[] = [], databases?: ServerPlace['databases']) => {
    const example = new ExampleProcess(['--data', folder.path, ...args], databases);
    running.push(example);
    return example;
  };

  it('tells what it can be asked for', async () => {
    const help = await start(['--help']).success();
    expect(help).toMatch(/^npm start -- \[options\]\n/);
    expect(help).toContain('--fresh');
    expect(help).not.toContain('Replaying');
  });

  it('replays both files, is done at the second start, and begins again with --fresh', async () => {
    const first = await start().success();
    expect(sums(first)).toEqual(ALL);
    expect(first).toMatch(/^thousands\s+220 /m);

    const second = await start().success();
    expect(second).toContain('All is done');
    expect(second).not.toMatch(PROGRESS);
    expect(sums(second)).toEqual(ALL);

    const fresh = await start(['--fresh', '--files', 'flights-20k']).success();
    expect(fresh).not.toContain('All is done');
    expect(sums(fresh)).toEqual(ONLY_20K);
  });

  it('resumes where it was after kill -9, with the same sums', async () => {
    for (let kills = 0; kills < 2; kills += 1) {
      const example = start(['--speed', '30000']);
      await example.line(PROGRESS);
      expect(await example.kill('SIGKILL')).toMatchObject({ signal: 'SIGKILL' });
    }
    const last = await start().success();
    expect(last).toMatch(BEFORE);
    expect(sums(last)).toEqual(ALL);
  });

  it('stops cleanly on Ctrl-C and resumes at the next start', async () => {
    const example = start(['--files', 'flights-20k', '--speed', '4000']);
    await example.line(PROGRESS);
    expect(await example.kill('SIGINT')).toEqual({ code: null, signal: 'SIGINT' });
    expect(example.output).toContain('Stopping');

    const next = await start(['--files', 'flights-20k']).success();
    expect(next).toMatch(BEFORE);
    expect(sums(next)).toEqual(ONLY_20K);
  });

  it('says what is wrong with its options', async () => {
    const example = start(['--speed', 'fast']);
    expect(await example.ended).toMatchObject({ code: 2 });
    expect(example.output).toContain("--speed: a number above 0 is needed, not 'fast'");
  });

  describe.each(['MongoDB', 'PostgreSQL'] as const)('on %s', (name) => {
    let place: ServerPlace;
    beforeEach(async () => {
      place = name === 'MongoDB' ? mongoPlace() : await postgresPlace();
    });
    afterEach(() => place.dispose());

    it('resumes where it was after kill -9, is done afterwards, and begins again with --fresh', async () => {
      const { databases } = place;
      const files = ['--files', 'flights-20k'];

      const killed = start([...files, '--speed', '4000'], databases);
      await killed.line(PROGRESS);
      await killed.kill('SIGKILL');

      const last = await start(files, databases).success();
      expect(last).toMatch(BEFORE);
      expect(sums(last)).toEqual(ONLY_20K);

      const second = await start(files, databases).success();
      expect(second).toContain('All is done');
      expect(sums(second)).toEqual(ONLY_20K);

      const fresh = start([...files, '--fresh', '--speed', '4000'], databases);
      await fresh.line(PROGRESS);
      expect(fresh.output).not.toContain('All is done');
      expect(fresh.output).not.toMatch(BEFORE);
    });
  });
});

/** An empty database on the run's server, as the example is told of it. */
interface ServerPlace {
  readonly databases: NonNullable<ConstructorParameters<typeof ExampleProcess>[1]>;
  dispose(): Promise<void>;
}

function mongoPlace(): ServerPlace {
  const database = openDatabase();
  const uri = database.uri.replace(/^(\w+(?:\+srv)?:\/\/[^/?]+)\/?[^?]*/, `$1/${database.name}`);
  return { databases: { MONGODB_URI: uri }, dispose: () => database.dispose() };
}

async function postgresPlace(): Promise<ServerPlace> {
  const { url, schema, query } = openSchema();
  await query(`create database ${schema}`);
  return {
    databases: { DATABASE_URL: url.replace(/\/postgres$/, `/${schema}`) },
    dispose: async () => void (await query(`drop database ${schema} with (force)`)),
  };
}
