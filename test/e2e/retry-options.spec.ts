import 'reflect-metadata';
import { Injectable } from '@nestjs/common';
import { ErrorCode, Streaming, type StreamingOptions } from 'nestjs-minibatch';
import { MinibatchTestingModule } from 'nestjs-minibatch/testing';
import { afterEach, describe, expect, it } from 'vitest';
import { bootError, closeAll, start } from './support/applications.js';

afterEach(closeAll);

describe('options that say when a message is given up', () => {
  it.each([
    ['retry.attempts', { retry: { attempts: 0 } }, 'retry.attempts is 0; allowed: a whole number of at least 1'],
    ['retry.attempts', { retry: { attempts: 2.5 } }, 'retry.attempts is 2.5; allowed: a whole number of at least 1'],
    ['retry.timeout', { retry: { timeout: 'abc' } }, "retry.timeout is 'abc'; allowed: a whole number of milliseconds"],
    ['retry.timeout', { retry: { timeout: 0 } }, 'retry.timeout is 0; allowed: a whole number of milliseconds'],
    ['retry.onTimeout', { retry: { onTimeout: 'skip' } }, "retry.onTimeout is 'skip'; allowed: 'wait' or 'abandon'"],
    [
      'retry.sinkTimeout',
      { retry: { sinkTimeout: 0 } },
      'retry.sinkTimeout is 0; allowed: a whole number of milliseconds',
    ],
    ['onAllFailed', { onAllFailed: 'x' }, "onAllFailed is 'x'; allowed: 'evidence', 'block' or 'deadLetter'"],
    ['onRefused', { onRefused: 'x' }, "onRefused is 'x'; allowed: 'block' or 'deadLetter'"],
    ['onRefused', { onRefused: 'deadLetter' }, "onRefused is 'deadLetter'; allowed: together with sink"],
  ])('stop the boot when they make no sense: %s %j', async (option, options, message) => {
    @Injectable()
    class Wrong {
      @Streaming('rows', { size: 1, ...options } as StreamingOptions)
      handle(): void {}
    }
    const error = await bootError({ imports: [MinibatchTestingModule.forRoot()], providers: [Wrong] });
    expect(error).toMatchObject({
      code: ErrorCode.InvalidOptions,
      message: expect.stringContaining(`Wrong.handle: ${message}`) as string,
      details: { where: 'Wrong.handle', option },
    });
  });

  it('stop the boot in the module, too', async () => {
    const boot = () => start({ imports: [MinibatchTestingModule.forRoot({ retry: { attempts: 0, timeout: '1s' } })] });
    await expect(boot()).rejects.toMatchObject({
      code: ErrorCode.InvalidOptions,
      message: expect.stringContaining('MinibatchModule: retry.attempts is 0') as string,
    });
  });
});
