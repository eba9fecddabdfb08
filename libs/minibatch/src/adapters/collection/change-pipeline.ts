import type { Document } from 'bson';
import { invalidOption, show } from '../../common/checks.js';

/** The operators that may stand where a field's name stands: what is inside them are filters again. */
const JOINERS = ['$and', '$or', '$nor'];

/**
 * Refuses what cannot be said of a document inside a change event, also where no change stream is used: a filter must not
 * begin to fail when the server becomes a replica set. @throws MinibatchError `InvalidOptions`
 */
export function checkFilter(where: string, filter: unknown): void {
  if (!isDocument(filter)) throw invalidOption(where, 'filter', filter, 'an object');
  for (const [name, condition] of Object.entries(filter)) {
    if (!name.startsWith('$')) continue;
    if (!JOINERS.includes(name)) {
      const allowed = `conditions on fields, joined by ${JOINERS.join(', ')}; use \`map\` for anything else`;
      throw invalidOption(where, 'filter', name, allowed);
    }
    if (!Array.isArray(condition)) throw invalidOption(where, `filter.${name}`, condition, 'a list of filters');
    for (const part of condition) checkFilter(where, part);
  }
}

/** @throws MinibatchError `InvalidOptions` */
export function checkProjection(where: string, projection: unknown): void {
  if (!isDocument(projection)) throw invalidOption(where, 'projection', projection, 'an object like { name: 1 }');
  const kinds = new Set(Object.values(projection));
  const plain = [...kinds].every((kind) => kind === 0 || kind === 1);
  if (!plain || kinds.size > 1) {
    throw invalidOption(where, 'projection', [...kinds], 'either 1 or 0 for all fields; use `map` for anything else');
  }
  if (projection['_id'] === 0)
    throw invalidOption(where, 'projection._id', 0, `1: it always comes; drop it in \`map\``);
}

/** The stages of a change stream that gives what `find(filter, { projection })` would give, and deletes if they are asked for. */
export function changePipeline(
  operations: readonly string[],
  filter: Document,
  projection: Readonly<Record<string, 0 | 1>> | undefined,
  deletes: boolean,
): Document[] {
  const wanted = { $and: [{ operationType: { $in: operations } }, onFullDocument(filter)] };
  // The event that ends the stream must come through: it holds the token to resume from.
  const always = { operationType: { $in: ['invalidate', ...(deletes ? ['delete'] : [])] } };
  const match = { $match: { $or: [always, wanted] } };
  const project = projection && changeProjection(projection);
  return project ? [match, { $project: project }] : [match];
}

/** The last stage of a change stream that tells which document changed, and not what is in it. */
export const WITHOUT_DOCUMENT: Document = { $project: { operationType: 1, documentKey: 1, clusterTime: 1 } };

function onFullDocument(filter: Document): Document {
  const entries = Object.entries(filter).map(([name, condition]: [string, unknown]): [string, unknown] =>
    Array.isArray(condition) && JOINERS.includes(name)
      ? [name, condition.map((part: Document) => onFullDocument(part))]
      : [`fullDocument.${name}`, condition],
  );
  return Object.fromEntries(entries);
}

function changeProjection(projection: Readonly<Record<string, 0 | 1>>): Document | undefined {
  const names = Object.keys(projection);
  if (names.length === 0) return undefined;
  const inner = Object.fromEntries(names.map((name) => [`fullDocument.${name}`, projection[name]]));
  if (Object.values(projection)[0] === 0) return inner;
  return { operationType: 1, documentKey: 1, clusterTime: 1, 'fullDocument._id': 1, ...inner };
}

function isDocument(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && show(value) === 'an object';
}
