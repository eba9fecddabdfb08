import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface NodeProcessOptions {
  /** The interpreter of the script. @default this Node */
  readonly program?: string;
  readonly cwd?: string;
  /** In addition to that of the test, without what the test runner adds; undefined removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** Longest wait for a line; a test that waits longer has failed. */
const LINE_TIMEOUT = 50_000;

const running = new Set<NodeProcess>();

/** A program, of Node if no other is named, as a process of its own, with the lines that it prints. */
export class NodeProcess {
  readonly lines: string[] = [];
  readonly ended: Promise<Ended>;
  private readonly child: ChildProcess;
  private over = false;
  private readonly waiting = new Set<() => void>();
  private readonly listeners = new Set<(line: string) => void>();

  constructor(
    script: string,
    args: readonly string[] = [],
    { program = process.execPath, cwd, env = {} }: NodeProcessOptions = {},
  ) {
    const given = Object.entries({ ...process.env, ...env }).filter(
      ([name, value]) => value !== undefined && !/^(VITEST|NODE_ENV$|TEST$)/.test(name),
    );
    this.child = spawn(program, [script, ...args], {
      ...(cwd === undefined ? {} : { cwd }),
      env: Object.fromEntries(given),
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    // It may end before it has read what was written to it.
    this.child.stdin?.on('error', () => undefined);
    for (const stream of [this.child.stdout, this.child.stderr]) {
      if (stream) createInterface({ input: stream }).on('line', (line) => this.take(line));
    }
    running.add(this);
    this.ended = once(this.child, 'close').then(([code, signal]: Ended[keyof Ended][]) => {
      running.delete(this);
      this.over = true;
      this.wake();
      return { code, signal } as Ended;
    });
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get output(): string {
    return this.lines.join('\n');
  }

  /** Calls `listener` with every line from now on. */
  follow(listener: (line: string) => void): void {
    this.listeners.add(listener);
  }

  say(line: string): void {
    this.child.stdin?.write(`${line}\n`);
  }

  /** Resolves with the line number `count` that matches; rejects if the process ends before, or if it takes too long. */
  async line(pattern: RegExp, count = 1): Promise<string> {
    const deadline = performance.now() + LINE_TIMEOUT;
    for (;;) {
      const found = this.lines.filter((line) => pattern.test(line))[count - 1];
      if (found !== undefined) return found;
      const left = deadline - performance.now();
      if (this.over || left <= 0) {
        throw new Error(`no line ${this.over ? '' : 'in time '}matches ${pattern}:\n${this.output}`);
      }
      await this.change(left);
    }
  }

  /** Resolves when the process has ended on its own, and well. */
  async success(): Promise<void> {
    const { code, signal } = await this.ended;
    if (code !== 0) throw new Error(`the process ended with ${code ?? signal}:\n${this.output}`);
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<Ended> {
    this.child.kill(signal);
    return this.ended;
  }

  private change(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.waiting.add(done);
    });
  }

  private take(line: string): void {
    this.lines.push(line);
    for (const listener of this.listeners) listener(line);
    this.wake();
  }

  private wake(): void {
    for (const resolve of this.waiting) resolve();
  }
}

/** For `afterEach`: no process outlives its test. */
export async function endProcesses(): Promise<void> {
  await Promise.all([...running].map((child) => child.kill()));
}
