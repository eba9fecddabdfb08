import { setTimeout } from 'node:timers/promises';
import { Injectable, type OnModuleDestroy } from '@nestjs/common';
import { FlightFiles } from './flights.js';
import { Totals } from './totals.js';

const TERMINAL = process.stdout.isTTY;

/** Milliseconds between two lines; in a terminal the same line is written again. */
const EVERY = TERMINAL ? 200 : 2000;

/** Follows the reports as they come in, and notices when all flights are in them. */
@Injectable()
export class Progress implements OnModuleDestroy {
  private readonly stopping = new AbortController();

  constructor(
    private readonly replay: FlightFiles,
    private readonly totals: Totals,
  ) {}

  /** Shows how far it is. Resolves with true when all is reported, with false when the application is being stopped. */
  async follow(): Promise<boolean> {
    const { total } = this.replay;
    const begin = performance.now();
    const before = await this.totals.reported();
    let shown = begin;
    for (let reported = before; reported < total; reported = await this.totals.reported()) {
      const now = performance.now();
      if (now - shown >= EVERY) {
        shown = now;
        show(reported, total, ((reported - before) / (now - begin)) * 1000);
      }
      const stopped = await setTimeout(200, false, { signal: this.stopping.signal }).catch(() => true);
      if (stopped) return false;
    }
    if (TERMINAL) process.stdout.write('\r\x1b[K');
    return true;
  }

  onModuleDestroy(): void {
    this.stopping.abort();
  }
}

function show(reported: number, total: number, perSecond: number): void {
  const percent = Math.floor((reported / total) * 100);
  const line = `${reported} of ${total} flights reported (${percent} %), ${Math.round(perSecond)} a second`;
  process.stdout.write(TERMINAL ? `\r${line}\x1b[K` : `${line}\n`);
}
