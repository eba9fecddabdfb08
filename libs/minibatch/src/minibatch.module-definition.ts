import {
  type CanActivate,
  type ConfigurableModuleAsyncOptions,
  ConfigurableModuleBuilder,
  Controller,
  type DynamicModule,
  type Type,
  UseGuards,
  VERSION_NEUTRAL,
} from '@nestjs/common';
import type { MinibatchModuleOptions } from './minibatch.options.js';
import { OpenStatusController } from './status/open-status.js';
import { StatusController } from './status/status.controller.js';
import type { MongooseStoreDefinition, StoreDefinition } from './storage/store-definition.js';
import type { StreamStore } from './storage/stream-store.interface.js';

/** A definition, the class of a custom store (created by injection), or an instance of one. */
export type StoreChoice = MongooseStoreDefinition | StoreDefinition | StreamStore | Type<StreamStore>;

export interface StatusControllerOptions {
  /** Path of its routes. @default 'minibatch' */
  readonly path?: string;
  /**
   * Guards of all its routes; they are resolved in this module, so what they inject comes from `imports`. Without them the log warns at
   * boot; `[]` says that everybody may read it. @default none
   */
  readonly guards?: readonly (Type<CanActivate> | CanActivate)[];
  /** Nest modules that provide what the guards inject. @default none */
  readonly imports?: NonNullable<DynamicModule['imports']>;
}

/** Options that decide which providers there are; they are given next to `useFactory` and are not part of what it returns. */
export interface MinibatchModuleExtras {
  /** Where streams are kept. @default `mongooseStore()`: the application's default Mongoose connection */
  store?: StoreChoice;
  /** Short for `store: mongooseStore({ connectionName })`. @default the default connection */
  connectionName?: string;
  /** Other modules can inject the services without importing this one. @default true */
  isGlobal?: boolean;
  /**
   * Serves the status of all streams as JSON at `GET /minibatch`. Anybody can read it unless guards are given; the better way is
   * a controller of your own that extends `StatusController`. @default none
   */
  statusController?: true | StatusControllerOptions;
}

// Every extra has a key here, or the builder takes it for an option.
const EXTRAS: Record<keyof MinibatchModuleExtras, unknown> = {
  store: undefined,
  connectionName: undefined,
  isGlobal: true,
  statusController: undefined,
};

/** What a factory returns: what shapes the module stands next to it. */
export type FactoryOptions = MinibatchModuleOptions & { readonly [K in keyof MinibatchModuleExtras]?: never };

export type MinibatchModuleAsyncOptions = ConfigurableModuleAsyncOptions<FactoryOptions, 'createMinibatchOptions'> &
  MinibatchModuleExtras;

export const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN, OPTIONS_TYPE } =
  new ConfigurableModuleBuilder<MinibatchModuleOptions>({
    moduleName: 'Minibatch',
    // Nest names it where the class alone is imported: it is what has to be called there.
    optionsInjectionToken: 'MinibatchModule.forRoot(…)',
  })
    .setClassMethodName('forRoot')
    .setFactoryMethodName('createMinibatchOptions')
    .setExtras<MinibatchModuleExtras>(EXTRAS as MinibatchModuleExtras, (definition, extras) => ({
      ...definition,
      global: extras.isGlobal ?? true,
      ...withStatus(definition, extras.statusController),
    }))
    .build();

function withStatus(
  definition: DynamicModule,
  choice: MinibatchModuleExtras['statusController'],
): Partial<DynamicModule> {
  if (!choice) return {};
  const { path = 'minibatch', guards, imports = [] } = choice === true ? {} : choice;
  const MinibatchStatusController = guards === undefined ? openStatus(path) : guardedStatus(guards);
  Controller({ path, version: VERSION_NEUTRAL })(MinibatchStatusController);
  return {
    imports: [...(definition.imports ?? []), ...imports],
    controllers: [...(definition.controllers ?? []), MinibatchStatusController],
  };
}

function openStatus(path: string): Type<StatusController> {
  return class MinibatchStatusController extends OpenStatusController {
    protected readonly path = path;
  };
}

function guardedStatus(guards: NonNullable<StatusControllerOptions['guards']>): Type<StatusController> {
  class MinibatchStatusController extends StatusController {}
  UseGuards(...guards)(MinibatchStatusController);
  return MinibatchStatusController;
}
