import { messageOf, ResultRefused } from '../../errors/minibatch.error.js';
import { show } from '../../common/checks.js';
import { setOwn } from '../../common/set-own.js';
import { eachElement, entriesOf } from '../elements.js';
import { FailureReason } from '../failure-reason.js';
import { resultId } from '../../windows/result-id.js';
import type { Window } from '../../windows/window.js';
import type { ResolvedSink } from './mqtt-sink.options.js';
import { wrongTopic } from './topics.js';

/** What is published for an element of a result. */
export interface Publication {
  /** Its place in the result. */
  readonly index: number;
  readonly topic: string;
  readonly payload: string | Buffer;
  /** Undefined for none, as in MQTT 3.1.1. */
  readonly userProperties: Readonly<Record<string, string>> | undefined;
}

/**
 * One for each element of an array, otherwise one; undefined gives none. All are made before the first is sent.
 *
 * @throws ResultRefused that names the element and what is wrong with it
 */
export function publicationsOf(sink: ResolvedSink, result: unknown, window: Window): readonly Publication[] {
  return eachElement(
    result,
    (element, index) => publicationOf(sink, element, index, window),
    (index = 0, cause) => unpublishable(sink, index, window, `it throws when it is read: ${messageOf(cause)}`, cause),
  );
}

function publicationOf(sink: ResolvedSink, element: unknown, place: number | undefined, window: Window): Publication {
  const index = place ?? 0;
  const make = <V>(option: string, work: () => V): V => {
    try {
      return work();
    } catch (cause) {
      throw unpublishable(sink, index, window, `${option} threw: ${messageOf(cause)}`, cause);
    }
  };
  const topic: unknown = make('topic', () => sink.topic(element, window));
  const wrong = wrongTopic(topic);
  if (wrong !== undefined) throw unpublishable(sink, index, window, `topic gave ${show(topic)}: ${wrong}`);
  const payload: unknown = make('payload', () => sink.payload(element, window));
  if (typeof payload !== 'string' && !(payload instanceof Uint8Array)) {
    throw unpublishable(sink, index, window, `payload returned ${typeof payload}, and not a string or bytes`);
  }
  const given = sink.userProperties && make('userProperties', () => entriesOf(sink.userProperties?.(element, window)));
  const own = given && propertiesOf(given, (what) => unpublishable(sink, index, window, what));
  return {
    index,
    topic: topic as string,
    payload:
      typeof payload === 'string' ? payload : Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength),
    userProperties: sink.idProperty === false ? own : { ...own, [sink.idProperty]: resultId(window, place) },
  };
}

function propertiesOf(
  given: readonly (readonly [name: string, value: unknown])[],
  wrong: (what: string) => Error,
): Record<string, string> {
  const properties: Record<string, string> = {};
  for (const [name, value] of given) {
    if (typeof value !== 'string') throw wrong(`userProperties gave ${show(value)} for '${name}', and not a string`);
    setOwn(properties, name, value);
  }
  return properties;
}

function unpublishable(
  { where }: ResolvedSink,
  index: number,
  window: Window,
  what: string,
  cause?: unknown,
): ResultRefused {
  const message = `${where}: result ${index} of window ${window.id} cannot be published: ${what}. Nothing of the window was sent`;
  return new ResultRefused(message, {
    cause,
    details: { reason: FailureReason.Unencodable, window: window.id, index },
  });
}
