import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { repository } from '../support/workspace.js';

const MAIN = repository('apps/example/dist/main.js');

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** The example as a process of its own. */
export class ExampleProcess {
  readonly lines: string[] = [];
  readonly ended: Promise<Ended>;
  private readonly child: ChildProcess;
  private over = false;
  private waiting: (() => void)[] = [];

  constructor(
    args: readonly string[],
    databases: { readonly MONGODB_URI?: string; readonly DATABASE_URL?: string } = {},
  ) {
    this.child = spawn(process.execPath, [MAIN, ...args], {
      env: { ...process.env, MONGODB_URI: '', DATABASE_URL: '', ...databases },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      if (stream) createInterface({ input: stream }).on('line', (line) => this.print(line));
    }
    this.ended = once(this.child, 'close').then(([code, signal]: Ended[keyof Ended][]) => {
      this.over = true;
      this.wake();
      return { code, signal } as Ended;
    });
  }

  get output(): string {
    return this.lines.join('\n');
  }

  /** Resolves when a line matches; rejects when the process ends before. */
  async line(pattern: RegExp): Promise<string> {
    for (;;) {
      const found = this.lines.find((line) => pattern.test(line));
      if (found !== undefined) return found;
      if (this.over) throw new Error(`no line matches ${pattern}:\n${this.output}`);
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
  }

  /** Resolves with the output; the process must have ended well. */
  async success(): Promise<string> {
    const { code, signal } = await this.ended;
    if (code === 0) return this.output;
    throw new Error(`the example ended with ${code ?? signal}:\n${this.output}`);
  }

  async kill(signal: NodeJS.Signals): Promise<Ended> {
    this.child.kill(signal);
    return this.ended;
  }

  private print(line: string): void {
    this.lines.push(line);
    this.wake();
  }

  private wake(): void {
    for (const resolve of this.waiting.splice(0)) resolve();
  }
}
