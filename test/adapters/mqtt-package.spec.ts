import { ErrorCode } from 'nestjs-minibatch';
import { describe, expect, it } from 'vitest';
import { repository, succeed } from '../support/workspace.js';

describe('nestjs-minibatch/mqtt without the package mqtt', () => {
  it('says what to install', async () => {
    const printed = await succeed(process.execPath, [repository('test/fixtures/mqtt/without-mqtt.mjs')]);
    expect(JSON.parse(printed)).toEqual([
      {
        code: ErrorCode.MissingPackage,
        message: expect.stringMatching(/^MqttSource needs .* Run: npm install mqtt \[/),
      },
      { code: ErrorCode.MissingPackage, message: expect.stringMatching(/^MqttSink needs .* Run: npm install mqtt \[/) },
    ]);
  });
});
