import { Module } from '@nestjs/common';
import { memoryStore, MinibatchModule } from 'nestjs-minibatch';
import { FlightReport, Reports } from './flight-report.js';

@Module({
  imports: [MinibatchModule.forRoot({ store: memoryStore() })],
  providers: [FlightReport, Reports],
})
export class AppModule {}
