import { invalidOption } from '../../common/checks.js';

/** Bytes of a topic; its length goes over the wire as 16 bits. */
const LONGEST = 65_535;

const FILTER = "a topic filter like 'sensors/+/temperature', 'sensors/#' or '$share/group/sensors/#'";

/** What may be subscribed. @throws MinibatchError `InvalidOptions` */
export function checkFilters(where: string, given: unknown): readonly string[] {
  const list: readonly unknown[] = Array.isArray(given) ? given : [given];
  if (list.length === 0) throw invalidOption(where, 'topics', given, `${FILTER}, or a list of them`);
  return [...new Set(list.map((filter, index) => checkFilter(where, `topics[${index}]`, filter)))];
}

function checkFilter(where: string, option: string, given: unknown): string {
  if (typeof given !== 'string' || !isText(given)) throw invalidOption(where, option, given, FILTER);
  const levels = given.split('/');
  if (levels[0] === '$share') {
    const [, group = '', ...shared] = levels;
    if (group === '' || /[+#]/.test(group) || shared.join('/') === '') {
      throw invalidOption(where, option, given, "'$share/<group>/<filter>', the group without + and #");
    }
    levels.splice(0, 2);
  }
  const well = levels.every((level, index) =>
    level.includes('#') ? level === '#' && index === levels.length - 1 : !level.includes('+') || level === '+',
  );
  if (!well) throw invalidOption(where, option, given, "+ alone in its level, # alone in the last one: 'a/+/b', 'a/#'");
  return given;
}

/** Why nothing can be published to it; undefined if it can. */
export function wrongTopic(topic: unknown): string | undefined {
  if (typeof topic !== 'string') return 'it must be a string';
  if (!isText(topic)) return `it must have 1 to ${LONGEST} bytes and no NUL`;
  if (/[+#]/.test(topic)) return 'it must have no + and no #: those are for subscribing';
  return undefined;
}

function isText(topic: string): boolean {
  return topic !== '' && !topic.includes('\0') && Buffer.byteLength(topic) <= LONGEST;
}
