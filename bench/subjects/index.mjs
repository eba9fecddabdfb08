import bullmq from './bullmq.mjs';
import bullmqAlways from './bullmq-always.mjs';
import floorLmdb from './floor-lmdb.mjs';
import floorMongo from './floor-mongo.mjs';
import floorMongoOnward from './floor-mongo-onward.mjs';
import floorPostgres from './floor-postgres.mjs';
import oursLmdb from './ours-lmdb.mjs';
import oursMongo from './ours-mongo.mjs';
import oursPostgres from './ours-postgres.mjs';
import pgBoss from './pg-boss.mjs';
import python from './python-minibatch.mjs';
import rxjs from './rxjs.mjs';

/** In the order of the tables: each floor before what stands on it. */
export const subjects = [
  floorMongo,
  floorMongoOnward,
  oursMongo,
  python,
  floorLmdb,
  oursLmdb,
  floorPostgres,
  oursPostgres,
  bullmq,
  bullmqAlways,
  pgBoss,
  rxjs,
];

export function subjectNamed(name) {
  const found = subjects.find((subject) => subject.name === name);
  if (found) return found;
  throw new Error(`No subject '${name}'. There are: ${subjects.map((subject) => subject.name).join(', ')}`);
}
