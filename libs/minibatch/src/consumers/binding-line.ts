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
}: ConsumerDefinition): string {
  const { size, interval } = emitterContext;
  const group = key.group === 'default' ? '' : ` (group ${key.group})`;
  const cut = [
    emitter.constructor.name,
    ...(size === undefined ? [] : [`size ${size}`]),
    ...(interval === undefined ? [] : [`interval ${ms(interval)}`]),
    ...(workers === 1 ? [] : [`${workers} workers`]),
    ...(executor ? [`executor ${executor.executor.name}`] : []),
  ].join(', ');
  const into = sinks.length === 0 ? '' : ` → ${sinks.map(({ name }) => name).join(', ')}`;
  return `'${key.stream}' → ${label}${group}: ${cut}${into}`;
}
