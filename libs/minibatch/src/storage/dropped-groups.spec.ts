import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type OpenedStore, STORES } from './stores.spec.support.js';

describe.each(STORES)('a stream that is dropped while a group is registered, on %s', (_, open) => {
  let opened: OpenedStore;
  beforeAll(async () => {
    opened = await open();
    await opened.store.open();
  });
  afterAll(() => opened.dispose());

  it('is made again, or goes with the group', async () => {
    const { store } = opened;
    for (let round = 0; round < 40; round += 1) {
      const stream = `dropped-${round % 3}`;
      await store.ensureStream(stream);
      const groups = ['one', 'two', 'three'].slice(0, 1 + (round % 3));
      const drop = store.dropStream(stream);
      // Alone, and together with others of the same turn.
      await Promise.all([drop, ...groups.map((group) => store.registerGroup({ stream, group }))]);
      const [info] = await store.listStreams([stream]);
      for (const group of info?.groups ?? []) expect(groups).toContain(group);
      // It stands for the next one to use.
      await store.registerGroup({ stream, group: 'one' });
      expect((await store.listStreams([stream]))[0]?.groups).toContain('one');
    }
  });
});
