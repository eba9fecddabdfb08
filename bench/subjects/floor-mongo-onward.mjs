import { bareMongo } from './floor-mongo.mjs';

export default bareMongo({ onward: true });
