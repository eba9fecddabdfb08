import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../testing/virtual-clock.js';
import { type ConsumerRecord, ConsumerRecords, type CurrentTerm } from './consumer-records.js';
import type { ConsumerDefinition } from './engine.interface.js';

const definitionOf = (stream: string, group = 'default') =>
  ({ label: `${stream}.${group}`, key: { stream, group, partition: 0 }, workers: 1 }) as ConsumerDefinition;

function labels(records: Iterable<ConsumerRecord>): string[] {
  return [...records].map(({ definition }) => definition.label);
}

describe('the consumers of a stream', () => {
  it('are found without the others, until they are deleted', () => {
    const records = new ConsumerRecords(new VirtualClock());
    const first = records.add(definitionOf('orders'));
    records.add(definitionOf('orders', 'audit'));
    records.add(definitionOf('flights'));

    expect(labels(records.of('orders'))).toEqual(['orders.default', 'orders.audit']);
    records.delete(first);
    expect(labels(records.of('orders'))).toEqual(['orders.audit']);
    expect(labels(records.of('unknown'))).toEqual([]);
  });

  it('keep a stream consumed as long as one of them has its lease', () => {
    const records = new ConsumerRecords(new VirtualClock());
    records.add(definitionOf('orders'));
    const held = records.add(definitionOf('orders', 'audit'));
    expect(records.isConsumed('orders')).toBe(false);
    held.current = {} as CurrentTerm;
    expect(records.isConsumed('orders')).toBe(true);
    expect(records.isConsumed('flights')).toBe(false);
  });

  it('are not those of a record that took the place of a deleted one', () => {
    const records = new ConsumerRecords(new VirtualClock());
    const former = records.add(definitionOf('orders'));
    records.delete(former);
    records.add(definitionOf('orders'));
    records.delete(former);
    expect(labels(records.of('orders'))).toEqual(['orders.default']);
  });
});
