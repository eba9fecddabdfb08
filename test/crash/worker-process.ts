import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const WORKER = fileURLToPath(new URL('../fixtures/crash/worker.mjs', import.meta.url));

export interface WorkerOptions {
  readonly store: 'lmdb' | 'mongo' | 'postgres';
  readonly path?: string;
  readonly uri?: string;
  readonly db?: string;
  /** File that each worker appends to. */
  readonly log: string;
  readonly rows?: number;
  readonly size?: number;
  readonly groups?: readonly string[];
  readonly leaseTime?: number;
  readonly shutdownTimeout?: number;
  /** Milliseconds of each handler run. */
  readonly work?: number;
  /** Milliseconds for which each run blocks the event loop. */
  readonly block?: number;
  readonly produce?: boolean;
  readonly exit?: boolean;
}

/** What a worker wrote down, in the order in which it happened. */
export type LogEntry =
  | {
      readonly pid: number;
      readonly kind: 'start' | 'put';
      readonly group: string;
      readonly window: string;
      readonly rows: number[];
    }
  | { readonly pid: number; readonly kind: 'commit'; readonly group: string; readonly windows: string[] };

export function readLog(path: string): readonly LogEntry[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line.endsWith('}'))
    .map((line) => JSON.parse(line) as LogEntry);
}

/** A real process of the crash tests. */
export class Worker {
  private readonly child: ChildProcess;
  private readonly lines: string[] = [];
  private readonly waiting = new Set<() => void>();
  private ended: { readonly code: number | null; readonly signal: NodeJS.Signals | null } | undefined;
  private errors = '';

  /** `script` is the worker's program; it gets the options as JSON. */
  constructor(options: object, script = WORKER) {
    this.child = spawn(process.execPath, [script, JSON.stringify(options)], { stdio: ['ignore', 'pipe', 'pipe'] });
    let rest = '';
    this.child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      const parts = (rest + chunk).split('\n');
      rest = parts.pop() ?? '';
      this.lines.push(...parts);
      this.changed();
    });
    this.child.stderr?.setEncoding('utf8').on('data', (chunk: string) => (this.errors += chunk));
    this.child.on('close', (code, signal) => {
      this.ended = { code, signal };
      this.changed();
    });
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  count(prefix: string): number {
    return this.lines.filter((line) => line.startsWith(prefix)).length;
  }

  /** Resolves when that many lines begin like this (true), or the process has ended or the time is over (false). */
  async saw(prefix: string, count = 1, milliseconds = Infinity): Promise<boolean> {
    let late = false;
    const timer =
      milliseconds === Infinity
        ? undefined
        : setTimeout(() => {
            late = true;
            this.changed();
          }, milliseconds);
    while (this.count(prefix) < count && !this.ended && !late) {
      await new Promise<void>((resolve) => this.waiting.add(resolve));
    }
    clearTimeout(timer);
    return this.count(prefix) >= count;
  }

  /** Everything it printed so far, line by line. */
  get output(): readonly string[] {
    return this.lines;
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  async exit(): Promise<number | null> {
    while (!this.ended) await new Promise<void>((resolve) => this.waiting.add(resolve));
    if (this.ended.code !== null && this.ended.code !== 0) throw new Error(`the worker failed:\n${this.errors}`);
    return this.ended.code;
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL');
    while (!this.ended) await new Promise<void>((resolve) => this.waiting.add(resolve));
  }

  private changed(): void {
    const waiting = [...this.waiting];
    this.waiting.clear();
    for (const resolve of waiting) resolve();
  }
}
