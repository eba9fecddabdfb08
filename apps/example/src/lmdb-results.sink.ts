import { join } from 'node:path';
import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { open } from 'lmdb';
import type { Window } from 'nestjs-minibatch';
import { Options } from './options.js';
import { FOLDERS } from './storage.js';
import { type Report, Results } from './results.sink.js';

/** The reports in an LMDB file of their own. */
@Injectable()
export class LmdbResults extends Results implements OnApplicationShutdown {
  private readonly reports;

  constructor({ data }: Options) {
    super();
    this.reports = open<Report, string>({ path: join(data, FOLDERS.reports) });
  }

  async put(report: Report, window: Window): Promise<void> {
    await this.reports.put(window.id, report);
    // The window is committed once this resolves, so the report has to be on the disk by then.
    await this.reports.flushed;
  }

  async all(): Promise<readonly Report[]> {
    return [...this.reports.getRange()].map(({ value }) => value);
  }

  /** Not in an earlier hook: windows in flight still put their reports. */
  async onApplicationShutdown(): Promise<void> {
    await this.reports.close();
  }
}
