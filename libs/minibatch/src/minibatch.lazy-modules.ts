import type { LazyModuleLoader } from '@nestjs/core';

/**
 * Nest runs no lifecycle hooks for modules that `LazyModuleLoader` loads, and tells nobody of them. So the application's one loader is
 * made to look at what it has loaded before it hands it out.
 */
export function afterLazyLoads(loader: LazyModuleLoader, look: () => Promise<void>): void {
  const load = loader.load.bind(loader);
  loader.load = async (...args) => {
    const loaded = await load(...args);
    await look();
    return loaded;
  };
}
