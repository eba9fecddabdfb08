import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { AppModule } from './app.module.js';
import { FlightFiles } from './flights.js';
import { Options } from './options.js';
import { Progress } from './progress.js';
import { forget } from './storage.js';
import { summary } from './summary.js';
import { Totals } from './totals.js';

const options = Options.read();
if (options.fresh) await forget(options);
const files = await FlightFiles.read(options.files);

const place = options.mongoUri ? 'MongoDB' : options.databaseUrl ? 'PostgreSQL' : `LMDB in ${options.data}`;
console.log(`Replaying ${files.total} flights through ${place}`);
const app = await NestFactory.create(AppModule.with(options, files), { logger: ['warn', 'error', 'fatal'] });
app.enableShutdownHooks();
if (options.statusPort) {
  await app.listen(options.statusPort);
  console.log(`Status: http://localhost:${options.statusPort}/status`);
} else {
  await app.init();
}

const totals = app.get(Totals);
const reported = await totals.reported();
if (reported >= files.total) console.log('All is done; npm start -- --fresh begins again.');
else if (reported > 0) console.log(`${reported} were reported before; resuming from there.`);

if (await app.get(Progress).follow()) {
  console.log(`\n${summary(await totals.read())}\n`);
  const exact = await totals.exact();
  console.log(exact ? 'These are the sums of the files.' : 'These are NOT the sums of the files.');
  await app.close();
  process.exitCode = exact ? 0 : 1;
} else {
  console.log('\nStopping; the next npm start resumes from here.');
}
