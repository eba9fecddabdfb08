import ms from 'ms';
import type { ConsumerDefinition } from '../engine/engine.interface.js';

/** One line of the boot log: which stream goes where, and how it is cut into windows. */
export function bindingLine({
  key,
  label,
  emitter,
  emitterContext,
  sinks,
  workers,
  executor,
  windows,
}: ConsumerDefinition): string {
  const { size, interval } = emitterContext;
  const group = key.group === 'default' ? '' : ` (group ${key.group})`;
  const cut = [
    ...(windows === undefined ? [emitter.constructor.name] : [`windows ${windows}`]),
    ...(size === undefined || windows !== undefined ? [] : [`size ${size}`]),
    ...(interval === undefined || windows !== undefined ? [] : [`interval ${ms(interval)}`]),
    ...(workers === 1 ? [] : [`${workers} workers`]),
    ...(executor ? [`executor ${executor.executor.name}`] : []),
  ].join(', ');
  const into = sinks.length === 0 ? '' : ` → ${sinks.map(({ name }) => name).join(', ')}`;
  return `'${key.stream}' → ${label}${group}: ${cut}${into}`;
}
