import { type INestApplicationContext, Module, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { memoryStore, MinibatchModule, type MinibatchModuleOptions } from 'nestjs-minibatch';

const apps: INestApplicationContext[] = [];

/** An application of this process. */
export async function boot(options: MinibatchModuleOptions & { store?: object }, providers: Type[], host: Type[] = []) {
  const defaults = { store: memoryStore(), shutdownTimeout: 100 };
  class AppModule {}
  Module({ imports: [MinibatchModule.forRoot({ ...defaults, ...options } as typeof defaults), ...host], providers })(
    AppModule,
  );
  const app = await NestFactory.createApplicationContext(AppModule, { logger: false, abortOnError: false });
  apps.push(app);
  return app;
}

/** After each test. */
export async function closeApps(): Promise<void> {
  for (const app of apps.splice(0)) await app.close();
}
