import { show } from '../common/checks.js';
import type { Sink } from './sink.interface.js';

export function isSink(value: unknown): value is Sink {
  return typeof value === 'object' && value !== null && 'put' in value && typeof value.put === 'function';
}

/** The name of an instance's class, for log lines, errors and the status. */
export function sinkName(sink: Sink): string {
  return nameOf(sink.constructor) ?? 'sink';
}

export function nameOf(token: unknown): string | undefined {
  if (typeof token === 'function') return token.name || show(token);
  return undefined;
}
