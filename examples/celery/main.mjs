// Reports every ten seconds how the tasks of a Celery application end.
//
//   celery -A app worker -E                                          the workers have to send events
//   CELERY_BROKER_URL=redis://localhost:6379/0 node examples/celery/main.mjs
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { MinibatchModule, Streaming, StreamSource } from 'nestjs-minibatch';
import { CeleryEventSource } from 'nestjs-minibatch/celery';
import { lmdbStore } from 'nestjs-minibatch/lmdb';

class TaskFeed extends CeleryEventSource {
  constructor() {
    super({ url: process.env.CELERY_BROKER_URL ?? 'redis://localhost:6379/0' });
  }
}
StreamSource('tasks')(TaskFeed);

class TaskReport {
  report({ data }) {
    const failed = data.filter((task) => task.task_state === 'FAILURE');
    console.log(`${data.length} tasks ended, ${failed.length} failed`);
    for (const { task_name, task_info } of failed) console.log(`  ${task_name}: ${task_info.exception}`);
  }
}
// What the decorator does in TypeScript.
const method = Object.getOwnPropertyDescriptor(TaskReport.prototype, 'report');
Streaming('tasks', { size: 1000, interval: process.env.REPORT_INTERVAL ?? '10s' })(
  TaskReport.prototype,
  'report',
  method,
);

class App {}
const store = lmdbStore({ path: process.env.STREAMS_PATH ?? './.data/tasks' });
Module({ imports: [MinibatchModule.forRoot({ store })], providers: [TaskFeed, TaskReport] })(App);
const app = await NestFactory.createApplicationContext(App);
app.enableShutdownHooks();
