import { Logger } from '@nestjs/common';
import { type Log, steadyLog } from '../common/log.js';

/** The log of the application, which may have a logger of its own. */
export function minibatchLog(): Log {
  return steadyLog(new Logger('Minibatch'));
}
