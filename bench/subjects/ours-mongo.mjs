import { MongooseModule } from '@nestjs/mongoose';
import { bootOurs, sessionOfOurs } from '../lib/nest-app.mjs';
import { meter } from '../lib/mongo-meter.mjs';
import { durabilityOf, openMongo } from '../lib/mongo.mjs';

export default {
  name: 'ours-mongo',
  label: 'nestjs-minibatch, MongoDB',
  needs: ['mongo'],
  durability: ({ mongo }) => durabilityOf(mongo),
  packages: ['nestjs-minibatch', 'mongoose', '@nestjs/core'],

  async open({ servers, clear, ...options }) {
    const { connection, name } = await openMongo(servers.mongo, 'ours', { clear });
    const imports = [MongooseModule.forRoot(servers.mongo.uri, { dbName: name, monitorCommands: true })];
    const ours = await bootOurs({ imports, ...options });
    const counted = meter(ours.app.get('DatabaseConnection').getClient());
    return {
      ...sessionOfOurs(ours, options),
      start: () => {
        counted.reset();
        return ours.start();
      },
      left: () => connection.collection('buffer').countDocuments(),
      figures: () => {
        const { written, bytes } = counted.figures;
        return { commands: counted.total, ...written, bytes };
      },
      async close() {
        await ours.close();
        await connection.close();
      },
    };
  },
};
