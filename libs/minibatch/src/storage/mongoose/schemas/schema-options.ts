/** The collections of the store. */
export type Role = 'stream' | 'buffer' | 'window' | 'consumer' | 'deadletter';

/**
 * What the schemas have in common. Collections and indexes are made in the store's `open`, not behind the application's
 * back; Python adds fields of its own, so the schemas are not strict.
 */
export function schemaOptions(role: Role) {
  return {
    autoCreate: false,
    autoIndex: false,
    versionKey: false,
    strict: false,
    minimize: false,
    // By a string and not by identity, so that two copies of the package know each other's models.
    statics: { minibatchRole: () => role },
  } as const;
}
