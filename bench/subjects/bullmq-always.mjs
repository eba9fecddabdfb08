import { bullmq } from './bullmq.mjs';

export default bullmq('always');
