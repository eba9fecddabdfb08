import mongoose from 'mongoose';

const { BSON } = mongoose.mongo;

/** What the driver adds to every command for itself; no message pays more for it. */
const SIZED = new Set(['insert', 'update', 'delete', 'findAndModify', 'find', 'getMore', 'aggregate', 'count']);

/**
 * Counts what goes over a connection made with `monitorCommands: true`, from now on. It keeps no command: what was sent would
 * stay in memory through the part that is timed, and each garbage collection would find it.
 *
 * @param {{ sized?: boolean }} options `sized`: counts bytes, too, which takes time with each command
 */
export function meter(client, { sized = false } = {}) {
  let figures = empty();
  client.on('commandStarted', ({ commandName, command }) => {
    figures.commands[commandName] = (figures.commands[commandName] ?? 0) + 1;
    if (sized && SIZED.has(commandName)) figures.bytes += BSON.calculateObjectSize(withoutSession(command));
  });
  client.on('commandSucceeded', ({ commandName, reply }) => {
    if (commandName === 'insert') figures.written.inserted += reply.n ?? 0;
    if (commandName === 'update') figures.written.updated += reply.n ?? 0;
    if (commandName === 'delete') figures.written.deleted += reply.n ?? 0;
    if (commandName === 'findAndModify') figures.written.updated += reply.lastErrorObject?.n ?? (reply.value ? 1 : 0);
  });
  return {
    get figures() {
      return figures;
    },
    get total() {
      return Object.values(figures.commands).reduce((a, b) => a + b, 0);
    },
    reset: () => {
      figures = empty();
    },
  };
}

const empty = () => ({ commands: {}, written: { inserted: 0, updated: 0, deleted: 0 }, bytes: 0 });

function withoutSession({ lsid: _lsid, $clusterTime: _clusterTime, ...command }) {
  return command;
}
