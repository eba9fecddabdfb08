import { describe, expect, it } from 'vitest';
import { type BullmqOptions, resolveBullmq } from './bullmq.options.js';

describe('the options of bullmq', () => {
  it.each<[Record<string, unknown>, RegExp]>([
    [{}, /connection is undefined; allowed: 'redis:/],
    [{ connection: 'http://localhost' }, /connection is '…'; allowed: 'redis:/],
    [{ connection: 'redis://:S3C/RET@cache:6379' }, /connection is 'redis:\/\/cache:6379'; allowed: .*percent-encoded/],
    [{ connection: { isCluster: true } }, /not a cluster/],
    [{ connection: 'redis://localhost', lock: 100 }, /lock is 100; allowed: .*500/],
    [{ connection: 'redis://localhost', concurrency: 0 }, /concurrency is 0/],
    [{ connection: 'redis://localhost', prefix: '' }, /prefix is ''/],
    [{ connection: 'redis://localhost', maxResultBytes: 0 }, /maxResultBytes is 0/],
    [{ connection: 'redis://localhost', size: 1 }, /size/],
  ])('refuses %j', (options, message) => {
    expect(() => resolveBullmq(options as unknown as BullmqOptions)).toThrow(message);
  });
});
