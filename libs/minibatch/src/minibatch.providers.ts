import type { DynamicModule, FactoryProvider, Provider, Type } from '@nestjs/common';
import { ErrorCode, MinibatchError } from './errors/minibatch.error.js';
import { invalidOption } from './common/checks.js';
import { loadPackage } from './common/missing-package.js';
import { RESOLVED_OPTIONS, STREAM_STORE } from './common/tokens.js';
import type { MinibatchModuleExtras, StoreChoice } from './minibatch.module-definition.js';
import { type MongooseStoreDefinition, mongooseStore, type StoreDefinition } from './storage/store-definition.js';
import type { StreamStore } from './storage/stream-store.interface.js';

/** A function that loads the store's code first: applications without MongoDB have not installed what it imports. */
export type MakeMongooseStore = (connection: object, options: MongooseStoreDefinition) => Promise<StreamStore>;

interface StoreParts {
  readonly provider: Provider;
  readonly imports: NonNullable<DynamicModule['imports']>;
}

/** The provider of the store, and the modules it needs. @throws MinibatchError `InvalidOptions` */
export function storeParts(extras: MinibatchModuleExtras, makeMongooseStore: MakeMongooseStore): StoreParts {
  const { store, connectionName } = extras;
  if (connectionName !== undefined && store !== undefined) {
    throw invalidOption(
      'MinibatchModule',
      'connectionName',
      connectionName,
      'nothing next to `store`: use mongooseStore({ connectionName })',
    );
  }
  // Only undefined asks for the default: null is a mistake.
  const choice: unknown =
    store === undefined ? mongooseStore(connectionName === undefined ? {} : { connectionName }) : store;
  if (typeof choice === 'function') {
    return { provider: { provide: STREAM_STORE, useClass: choice as Type<StreamStore> }, imports: [] };
  }
  if (isMongoose(choice)) return { provider: mongooseProvider(choice, makeMongooseStore), imports: [] };
  if (isDefinition(choice)) {
    const { imports = [], inject = [] } = choice;
    return {
      provider: {
        provide: STREAM_STORE,
        inject: [RESOLVED_OPTIONS, ...inject] as NonNullable<FactoryProvider['inject']>,
        useFactory: (_: unknown, ...dependencies: never[]) => choice.useFactory(...dependencies),
      },
      imports: [...imports] as NonNullable<DynamicModule['imports']>,
    };
  }
  if (isStore(choice)) return { provider: { provide: STREAM_STORE, useValue: choice }, imports: [] };
  throw invalidOption(
    'MinibatchModule',
    'store',
    choice,
    'mongooseStore(…), postgresStore(…), lmdbStore(…), memoryStore(), a class that implements StreamStore, or an instance of one',
  );
}

/** The connection is optional, so that its absence can be explained. The options come first: what is wrong with them is the cause then. */
function mongooseProvider(definition: MongooseStoreDefinition, make: MakeMongooseStore): FactoryProvider<StreamStore> {
  const { connectionName } = definition;
  return {
    provide: STREAM_STORE,
    inject: [RESOLVED_OPTIONS, { token: connectionToken(connectionName), optional: true }],
    useFactory: async (_: unknown, connection: object | undefined) => {
      if (connection) return make(connection, definition);
      await checkInstalled();
      const named = connectionName === undefined ? '' : `, { connectionName: '${connectionName}' }`;
      throw new MinibatchError(
        ErrorCode.NoConnection,
        `MinibatchModule: there is no Mongoose connection${connectionName === undefined ? '' : ` named '${connectionName}'`}: import ` +
          `MongooseModule.forRoot(uri${named}) in the root module, or ${OTHER_STORE}`,
        { details: { connectionName } },
      );
    },
  };
}

const OTHER_STORE = 'choose another store, e.g. forRoot({ store: lmdbStore({ path }) })';

/** What `getConnectionToken` of @nestjs/mongoose returns, which not every application has installed. */
export function connectionToken(connectionName = ''): string {
  return connectionName === '' || connectionName === DEFAULT_CONNECTION
    ? DEFAULT_CONNECTION
    : `${connectionName}Connection`;
}

const DEFAULT_CONNECTION = 'DatabaseConnection';

/** @throws MinibatchError `MissingPackage` */
async function checkInstalled(): Promise<void> {
  const where = 'MinibatchModule: the store in MongoDB, which is the default,';
  const remedy = `npm install mongoose @nestjs/mongoose, or ${OTHER_STORE}`;
  await loadPackage(where, 'mongoose', () => import('mongoose'), remedy);
  await loadPackage(where, '@nestjs/mongoose', () => import('@nestjs/mongoose'), remedy);
}

function isMongoose(choice: unknown): choice is MongooseStoreDefinition {
  return (
    typeof choice === 'object' &&
    choice !== null &&
    'kind' in choice &&
    choice.kind === 'mongoose' &&
    !('useFactory' in choice)
  );
}

function isDefinition(choice: unknown): choice is StoreDefinition {
  return (
    typeof choice === 'object' && choice !== null && 'useFactory' in choice && typeof choice.useFactory === 'function'
  );
}

function isStore(choice: StoreChoice | unknown): choice is StreamStore {
  return typeof choice === 'object' && choice !== null && 'append' in choice && typeof choice.append === 'function';
}
