import { MongooseModule } from '@nestjs/mongoose';
import { bootOurs, sessionOfOurs } from '../lib/nest-app.mjs';
import { meter } from '../lib/mongo-meter.mjs';
import { durabilityOf, openMongo } from '../lib/mongo.mjs';

export default {
  name: 'ours-mongo',
  label: 'nestjs-minibatch, MongoDB',
  needs: ['mongo'],
  countsApart: true,
  durability: ({ mongo }) => durabilityOf(mongo),
  packages: ['nestjs-minibatch', 'mongoose', '@nestjs/core'],

  async open({ servers, clear, counting, ...options }) {
    const { connection, name } = await openMongo(servers.mongo, 'ours', { clear });
    const imports = [MongooseModule.forRoot(servers.mongo.uri, { dbName: name, monitorCommands: counting })];
    const ours = await bootOurs({ imports, ...options });
    const counted = counting && meter(ours.app.get('DatabaseConnection').getClient());
    return {
      ...sessionOfOurs(ours, options),
      start: () => {
        if (counting) counted.reset();
        return ours.start();
      },
      left: () => connection.collection('buffer').countDocuments(),
      figures: () => (counting ? { commands: counted.total, ...counted.figures.written } : undefined),
      async close() {
        await ours.close();
        await connection.close();
      },
    };
  },
};
