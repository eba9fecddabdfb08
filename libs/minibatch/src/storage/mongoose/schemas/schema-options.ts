/** The collections of the store. */
export type Role = 'stream' | 'buffer' | 'window' | 'consumer' | 'deadletter' | 'state';

/**
 * Options of all schemas. The store creates collections and indexes in `open`, not Mongoose behind the application's back. The schemas are
 * not strict, because Python adds fields.
 */
export function schemaOptions(role: Role) {
  return {
    autoCreate: false,
    autoIndex: false,
    versionKey: false,
    strict: false,
    minimize: false,
    // A string and not an identity, so that two copies of the package recognise each other's models.
    statics: { minibatchRole: () => role },
  } as const;
}
