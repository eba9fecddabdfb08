import { join } from 'node:path';
import { type DynamicModule, Module, type Type } from '@nestjs/common';
import { MongooseModule } from '@nestjs/mongoose';
import { MinibatchModule, mongooseStore } from 'nestjs-minibatch';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { postgresStore } from 'nestjs-minibatch/postgres';
import { FlightReport } from './flight-report.js';
import { FlightFiles, Flights } from './flights.js';
import { FlightsSource } from './flights.source.js';
import { LmdbResults } from './lmdb-results.sink.js';
import { MongoResults } from './mongo-results.sink.js';
import { Options } from './options.js';
import { PostgresResults } from './postgres-results.sink.js';
import { Progress } from './progress.js';
import { Results } from './results.sink.js';
import { FlightStatus } from './status.controller.js';
import { FOLDERS, STREAM_COLLECTIONS, STREAM_SCHEMA } from './storage.js';
import { Totals } from './totals.js';

@Module({
  imports: [MinibatchModule.forFeature([Flights])],
  controllers: [FlightStatus],
  providers: [FlightsSource, FlightReport, Totals, Progress],
})
export class AppModule {
  static with(options: Options, files: FlightFiles): DynamicModule {
    return {
      module: AppModule,
      imports: importsFor(options),
      providers: [
        { provide: Options, useValue: options },
        { provide: FlightFiles, useValue: files },
        { provide: Results, useClass: resultsFor(options) },
      ],
    };
  }
}

/** Streams and reports are in the same database. */
function importsFor({ mongoUri, databaseUrl, data }: Options): NonNullable<DynamicModule['imports']> {
  if (mongoUri) {
    const store = mongooseStore({ collections: STREAM_COLLECTIONS });
    return [MongooseModule.forRoot(mongoUri), MinibatchModule.forRoot({ store })];
  }
  if (databaseUrl) {
    const store = postgresStore({ connectionString: databaseUrl, schema: STREAM_SCHEMA });
    return [MinibatchModule.forRoot({ store })];
  }
  return [MinibatchModule.forRoot({ store: lmdbStore({ path: join(data, FOLDERS.streams) }) })];
}

function resultsFor({ mongoUri, databaseUrl }: Options): Type<Results> {
  if (mongoUri) return MongoResults;
  return databaseUrl ? PostgresResults : LmdbResults;
}
