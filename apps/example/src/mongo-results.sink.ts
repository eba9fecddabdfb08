import { Injectable } from '@nestjs/common';
import { InjectConnection } from '@nestjs/mongoose';
import type { Connection } from 'mongoose';
import { CollectionSink } from 'nestjs-minibatch';
import { REPORT_COLLECTION } from './storage.js';
import type { Report, Results } from './results.sink.js';

/** The reports in a collection, upserted by window id. */
@Injectable()
export class MongoResults extends CollectionSink<Report> implements Results {
  private readonly reports;

  constructor(@InjectConnection() connection: Connection) {
    super({ connection, collection: REPORT_COLLECTION });
    this.reports = connection.collection<Report>(REPORT_COLLECTION);
  }

  async all(): Promise<readonly Report[]> {
    return this.reports.find().toArray();
  }
}
