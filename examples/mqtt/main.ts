// Readings of sensors come by MQTT; their averages, of a hundred or of a second, go out by MQTT.
//   MQTT_URL=mqtt://127.0.0.1:1883 node main.js
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { MinibatchModule, Streaming, StreamSource, Window } from 'nestjs-minibatch';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { MqttSink, MqttSource } from 'nestjs-minibatch/mqtt';

const url = process.env['MQTT_URL'] ?? 'mqtt://127.0.0.1:1883';
const store = lmdbStore({ path: process.env['STREAMS_PATH'] ?? './streams' });

@StreamSource('readings')
class SensorFeed extends MqttSource<{ celsius: number }> {
  constructor() {
    super({ url, clientId: 'averages-1', topics: 'sensors/+/temperature', malformed: 'skip' });
  }
}

class Averages extends MqttSink {
  constructor() {
    super({ url, topic: 'averages/temperature', retain: true });
  }
}

class Averaging {
  @Streaming('readings', { size: 100, interval: '1s', sink: Averages })
  average({ data }: Window<{ celsius: number }>) {
    return { readings: data.length, celsius: data.reduce((sum, { celsius }) => sum + celsius, 0) / data.length };
  }
}

@Module({ imports: [MinibatchModule.forRoot({ store })], providers: [SensorFeed, Averages, Averaging] })
class AppModule {}

(await NestFactory.createApplicationContext(AppModule)).enableShutdownHooks();
