import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { bootOurs, sessionOfOurs } from '../lib/nest-app.mjs';

export default {
  name: 'ours-lmdb',
  label: 'nestjs-minibatch, LMDB',
  needs: [],
  durability: 'synced to disk before the append resolves',
  packages: ['nestjs-minibatch', 'lmdb', '@nestjs/core'],

  async open({ folder, clear, ...options }) {
    const path = join(folder, 'ours-lmdb');
    if (clear) await rm(path, { recursive: true, force: true });
    const ours = await bootOurs({ store: lmdbStore({ path }), ...options });
    const left = async () => {
      let buffered = 0;
      for (const stream of options.streams) buffered += (await ours.streams.stream(stream).stats()).buffered;
      return buffered;
    };
    return { ...sessionOfOurs(ours, options), start: ours.start, left, close: ours.close };
  },
};
