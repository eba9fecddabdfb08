import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Test } from '@nestjs/testing';
import { MinibatchHarness, MinibatchTestingModule } from 'nestjs-minibatch/testing';
import { afterEach, describe, expect, it } from 'vitest';
import {
  Airports,
  DelayPipeline,
  Flights,
  LateFlights,
  readFlights,
  SmallDelays,
} from '../../examples/pipelines/main.js';
import { endProcesses, NodeProcess } from '../e2e/support/node-process.js';
import { repository } from '../support/workspace.js';

describe('the example of pipelines', { timeout: 120_000 }, () => {
  afterEach(endProcesses);

  it('does with a few flights what it says', async () => {
    const imports = [MinibatchTestingModule.forRoot()];
    const app = await Test.createTestingModule({ imports, providers: [Airports, DelayPipeline] }).compile();
    await app.init();
    const harness = app.get(MinibatchHarness);
    const delays = [-5, 0, 20, 60, 75];
    await harness.appendMany(
      Flights,
      delays.map((delay) => ({ origin: 'SAT', delay })),
    );
    await harness.advance('1s');
    expect(harness.outputs(LateFlights)).toEqual([
      { origin: 'SAT', delay: 60, city: 'San Antonio' },
      { origin: 'SAT', delay: 75, city: 'San Antonio' },
    ]);
    expect(harness.outputs(SmallDelays)).toEqual([{ origin: 'SAT', delay: 20 }]);
    await app.close();
  });

  it('prints by one command what a person can check', async () => {
    const temporary = await mkdtemp(join(tmpdir(), 'pipelines-'));
    const env = { TMPDIR: temporary, NO_COLOR: '1' };
    const example = new NodeProcess(repository('scripts/example.mjs'), ['pipelines'], { env });
    await example.success();
    const flights = await readFlights();
    const late = flights.filter(({ delay }) => delay >= 60).length;
    const small = flights.filter(({ delay }) => delay > 0 && delay < 60).length;
    expect(late).toBeGreaterThan(100);
    expect(example.output).toMatch(new RegExp(`'late-flights' +│ ${late} +│ ${late} `));
    expect(example.output).toMatch(new RegExp(`'small-delays' +│ ${small} +│ ${small} `));
    await rm(temporary, { recursive: true, force: true });
  });
});
