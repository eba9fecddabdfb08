import type { KeyedConsumer, KeyedWindows, MakeKeyed } from '../consumers/consumer.definition.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { type HoppingShape, logicOf, type WindowShape } from '../flow/window-shape.js';
import type { StreamStore } from '../storage/stream-store.interface.js';
import { KeyedStage } from './keyed.stage.js';
import { LARGEST_ROW } from './window-batch.js';
import { WindowStage } from './window-stage.js';

/** Of a message: a row has to have room for it, and for what is known of it. */
const MOST_BYTES = LARGEST_ROW - 4 * 1024;

/** Makes windows by key and event time for the consumers of a store. */
export function keyedWindows(store: StreamStore): MakeKeyed {
  return (consumer) => {
    requireState(consumer, store);
    return windowsOf(consumer);
  };
}

function windowsOf(consumer: KeyedConsumer): KeyedWindows {
  const { label, keyed } = consumer;
  const options = {
    logic: logicOf(keyed.shape, 'messages'),
    time: keyed.shape.time,
    shape: shapeText(keyed.shape),
    changed: (stored: string) => changed(consumer, stored),
  };
  const stage = new KeyedStage({
    ...keyed,
    label,
    maxSize: consumer.maxSize,
    maxBytes: consumer.maxBytes,
    most: MOST_BYTES,
  });
  return { stage, strategy: () => new WindowStage(options) };
}

/** What decides on how rows are read. What does not is left out, so that it can be changed while windows are open. */
function shapeText({ windows, time }: WindowShape): string {
  const { lateness: _lateness, lateWindows: _lateWindows, ...own } = windows as HoppingShape;
  return JSON.stringify({ ...own, time: time.mode, messages: true }, (_key, value: unknown) =>
    value === Infinity ? 'none' : value,
  );
}

function changed({ label, stream, group }: KeyedConsumer, stored: string): MinibatchError {
  return new MinibatchError(
    ErrorCode.StageChanged,
    `windows of ${label} are open that were begun with other options (${stored}): run the earlier version once more and flush '${stream}', which ` +
      'gives them out, or give the consumer another group',
    { details: { consumer: label, stream, group, stored } },
  );
}

/** @throws MinibatchError `StoreUnsupported` */
function requireState({ label, stream, group }: KeyedConsumer, store: StreamStore): void {
  if (store.readState) return;
  throw new MinibatchError(
    ErrorCode.StoreUnsupported,
    `${label}: windows by key and event time need a store that keeps rows for a consumer, and ${store.name} does not: all stores of this package ` +
      'do; a store of your own needs readState, dueState and listState, and has to apply the effects of a commit',
    { details: { consumer: label, stream, group, store: store.name } },
  );
}
