import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { StreamService } from 'nestjs-minibatch';
import { AppModule } from './app.module.js';
import { type Flight, Reports } from './flight-report.js';

async function bootstrap() {
  const app = await NestFactory.createApplicationContext(AppModule, { logger: ['warn', 'error'] });
  app.enableShutdownHooks();
  const streams = app.get(StreamService);
  for (const delay of [5, 25, 10]) await streams.append<Flight>('flights', { origin: 'SAT', delay });
  const report = await app.get(Reports).first;
  await app.close();
  console.log(JSON.stringify(report));
}

void bootstrap();
