import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const FILES = ['flights-20k', 'flights-200k'];

const USAGE = `npm start -- [options]

  --fresh           forget what was done and begin again
  --speed <n>       flights per second; without it as fast as it goes
  --files <names>   ${FILES.join(',')} or one of them
  --status <port>   serve the status as JSON at http://localhost:<port>/status while it runs
  --data <folder>   where the embedded store lies; apps/example/.data by default
  --help            this text

DATABASE_URL in the environment: use this PostgreSQL instead of the embedded store
MONGODB_URI in the environment: use this MongoDB instead`;

/** What the command line and the environment say. */
export class Options {
  constructor(
    readonly fresh: boolean,
    readonly speed: number | undefined,
    readonly files: readonly string[],
    readonly statusPort: number | undefined,
    readonly data: string,
    readonly mongoUri: string | undefined,
    readonly databaseUrl: string | undefined,
  ) {}

  /** Ends the process with the usage if they ask for it or make no sense. */
  static read(): Options {
    try {
      const options = parse();
      if (options) return options;
      console.log(USAGE);
      process.exit(0);
    } catch (error) {
      console.error(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
      process.exit(2);
    }
  }
}

/** Undefined if the usage is wanted. */
function parse(): Options | undefined {
  const { values } = parseArgs({
    options: {
      help: { type: 'boolean', short: 'h', default: false },
      fresh: { type: 'boolean', default: false },
      speed: { type: 'string' },
      files: { type: 'string', default: FILES.join() },
      status: { type: 'string' },
      data: { type: 'string', default: fileURLToPath(new URL('../.data', import.meta.url)) },
    },
  });
  if (values.help) return undefined;
  const files = values.files.split(',');
  const unknown = files.find((name) => !FILES.includes(name));
  if (unknown !== undefined) throw new Error(`--files: there is no '${unknown}'`);
  const speed = above0('--speed', values.speed);
  const statusPort = above0('--status', values.status);
  const { MONGODB_URI: mongoUri, DATABASE_URL: databaseUrl } = process.env;
  if (mongoUri && databaseUrl) throw new Error('give DATABASE_URL or MONGODB_URI, not both');
  return new Options(
    values.fresh,
    speed,
    files,
    statusPort,
    values.data,
    mongoUri || undefined,
    databaseUrl || undefined,
  );
}

function above0(name: string, value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (Number(value) > 0) return Number(value);
  throw new Error(`${name}: a number above 0 is needed, not '${value}'`);
}
