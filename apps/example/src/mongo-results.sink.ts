import { Injectable } from '@nestjs/common';
import { InjectConnection } from '@nestjs/mongoose';
import type { Connection } from 'mongoose';
import type { Window } from 'nestjs-minibatch';
import { REPORT_COLLECTION } from './storage.js';
import { type Report, Results } from './results.sink.js';

/** The reports in a collection. */
@Injectable()
export class MongoResults extends Results {
  private readonly reports;

  constructor(@InjectConnection() connection: Connection) {
    super();
    this.reports = connection.collection<Report & { _id: string }>(REPORT_COLLECTION);
  }

  async put(report: Report, window: Window): Promise<void> {
    await this.reports.replaceOne({ _id: window.id }, report, { upsert: true, writeConcern: { w: 'majority' } });
  }

  async all(): Promise<readonly Report[]> {
    return this.reports.find().toArray();
  }
}
