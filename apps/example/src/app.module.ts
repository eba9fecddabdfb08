import { join } from 'node:path';
import { type DynamicModule, Module } from '@nestjs/common';
import { MongooseModule } from '@nestjs/mongoose';
import { MinibatchModule, mongooseStore } from 'nestjs-minibatch';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { FlightReport } from './flight-report.js';
import { FlightFiles, Flights } from './flights.js';
import { FlightsSource } from './flights.source.js';
import { LmdbResults } from './lmdb-results.sink.js';
import { MongoResults } from './mongo-results.sink.js';
import { Options } from './options.js';
import { Progress } from './progress.js';
import { Results } from './results.sink.js';
import { FlightStatus } from './status.controller.js';
import { FOLDERS, STREAM_COLLECTIONS } from './storage.js';
import { Totals } from './totals.js';

@Module({
  imports: [MinibatchModule.forFeature([Flights])],
  controllers: [FlightStatus],
  providers: [FlightsSource, FlightReport, Totals, Progress],
})
export class AppModule {
  static with(options: Options, files: FlightFiles): DynamicModule {
    const { mongoUri, data } = options;
    return {
      module: AppModule,
      imports: mongoUri
        ? [
            MongooseModule.forRoot(mongoUri),
            MinibatchModule.forRoot({ store: mongooseStore({ collections: STREAM_COLLECTIONS }) }),
          ]
        : [MinibatchModule.forRoot({ store: lmdbStore({ path: join(data, FOLDERS.streams) }) })],
      providers: [
        { provide: Options, useValue: options },
        { provide: FlightFiles, useValue: files },
        { provide: Results, useClass: mongoUri ? MongoResults : LmdbResults },
      ],
    };
  }
}
