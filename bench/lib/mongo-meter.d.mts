import type { mongo } from 'mongoose';

export interface MongoFigures {
  /** By the command's name. */
  readonly commands: Readonly<Record<string, number>>;
  /** Documents inserted, changed or removed, by kind. */
  readonly written: Readonly<Record<'inserted' | 'updated' | 'deleted', number>>;
  /** BSON of all commands, with `sized`. */
  readonly bytes: number;
}

/** Counts what goes over a connection made with `monitorCommands: true`, from now on; `sized`: bytes, too. */
export function meter(
  client: mongo.MongoClient,
  options?: { sized?: boolean },
): {
  readonly figures: MongoFigures;
  readonly total: number;
  reset(): void;
};
