import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { MinibatchModule, Streaming, StreamSource, Window } from 'nestjs-minibatch';
import { KafkaSink, KafkaSource } from 'nestjs-minibatch/kafka';
import { lmdbStore } from 'nestjs-minibatch/lmdb';

const kafka = { brokers: (process.env.KAFKA_BROKERS ?? 'localhost:9092').split(',') };
type Flight = { origin: string; delay: number };
type Report = { flights: number; worst: number };

@StreamSource('flights')
class FlightFeed extends KafkaSource<Flight> {
  constructor() {
    super({ kafka, topics: 'flights' });
  }
}

class Reports extends KafkaSink<Report> {
  constructor() {
    super({ kafka, topic: 'reports' });
  }
}

class FlightReport {
  @Streaming<Flight, typeof Reports>('flights', { size: 100, interval: '2s', sink: Reports })
  report({ data }: Window<Flight>) {
    return { flights: data.length, worst: Math.max(...data.map((flight) => flight.delay)) };
  }
}

@Module({
  imports: [MinibatchModule.forRoot({ store: lmdbStore({ path: process.env.DATA ?? './data' }) })],
  providers: [FlightFeed, Reports, FlightReport],
})
class AppModule {}

(await NestFactory.createApplicationContext(AppModule)).enableShutdownHooks();
