// Rows of a dataset of omega|ml → windows → sums in another dataset.
//
//   MONGODB_URI=mongodb://localhost:27017/omega node examples/omegaml/main.mjs
//
// In Python: om.datasets.put([{'n': 1}, {'n': 2}], 'numbers', as_raw=True), then om.datasets.get('sums')
import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { getConnectionToken, MongooseModule } from '@nestjs/mongoose';
import { MinibatchModule, Streaming, StreamService } from 'nestjs-minibatch';
import { DatasetSink, DatasetSource } from 'nestjs-minibatch/omegaml';

class Sums extends DatasetSink {}

class Adding {
  add({ data }) {
    const sum = data.reduce((total, { n }) => total + n, 0);
    console.log(`${data.length} rows, sum ${sum}`);
    return { rows: data.length, sum };
  }
}
const add = Object.getOwnPropertyDescriptor(Adding.prototype, 'add');
Streaming('numbers', { size: 100, interval: '1s', sink: Sums })(Adding.prototype, 'add', add);

const sums = {
  provide: Sums,
  inject: [getConnectionToken()],
  useFactory: (connection) => new Sums({ connection, dataset: 'sums' }),
};
const imports = [MongooseModule.forRoot(process.env.MONGODB_URI), MinibatchModule.forRoot()];
const app = await NestFactory.createApplicationContext({ module: class App {}, imports, providers: [Adding, sums] });
app.enableShutdownHooks();
const connection = app.get(getConnectionToken());
app
  .get(StreamService)
  .stream('numbers')
  .attach(new DatasetSource({ connection, dataset: 'numbers' }));
