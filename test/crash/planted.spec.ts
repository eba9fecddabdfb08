import { afterEach, describe, expect, it } from 'vitest';
import type { ViolationKind } from './checker.js';
import { crashUri } from './places.js';
import { CRASH_STORES, CrashSite, type Step } from './scenario.js';

/** For a stopped process to be replaced soon. */
const LEASE = 1_000;
const ROWS = 60;

type Fault = [plant: string, arrange: (plant: string) => Promise<CrashSite>, expected: ViolationKind[]];
type Arrangement = [what: string, arrange: () => Promise<CrashSite>];

/**
 * What makes the suite worth something: mistakes, built into a layer around the store, that it has to report; and the same
 * arrangement without the mistake, in which there is nothing to report.
 */
describe('planted faults', () => {
  const sites: CrashSite[] = [];
  afterEach(async () => {
    for (const site of sites.splice(0)) await site.close();
  });

  for (const store of CRASH_STORES) {
    const prepare = (): CrashSite => {
      const site = new CrashSite({ store, uri: crashUri(store) });
      sites.push(site);
      return site;
    };
    const kinds = (site: CrashSite): Set<ViolationKind> => new Set(site.verdict().violations.map(({ kind }) => kind));

    /** One process ends at the step, the next one drains. */
    const killed = async (plant: string, step: Step, nth: number): Promise<CrashSite> => {
      const site = prepare();
      const first = site.start({ to: ROWS, plant, fault: { step, nth } });
      await site.ended(first);
      expect(first.output).not.toContain('drained');
      await site.ended(site.start({ to: ROWS, plant, final: true }));
      return site;
    };

    /**
     * A holder is stopped before its commit, and resumes when another process has taken over, handled its window and
     * committed it. All is one window, so that nothing else is being written then: an LMDB process that is stopped inside a
     * write holds up all others.
     */
    const stopped = async (plant: string | undefined): Promise<CrashSite> => {
      for (let tries = 1; ; tries += 1) {
        const site = prepare();
        const options = { to: ROWS, size: ROWS, interval: null, work: 50, leaseTime: LEASE, plant };
        const holder = site.start({ ...options, fault: { step: 'commit: before', signal: 'SIGSTOP' } });
        expect(await holder.saw('SIGSTOP')).toBe(true);
        const other = site.start({ ...options, final: true, linger: true });
        if (!(await other.saw('drained', 1, 30_000))) {
          // The renewal of a lease was such a write.
          expect(tries).toBeLessThan(3);
          await site.close();
          continue;
        }
        holder.signal('SIGCONT');
        await site.ended(holder);
        await other.kill();
        return site;
      }
    };

    /** Messages come to light with ids below those that were read already: not where the store has a total order. */
    const interleaved = async (plant: string | undefined): Promise<CrashSite> => {
      const site = prepare();
      // A process that has lost messages waits for them until its patience is over; one that has not is done before.
      const patience = plant === undefined ? {} : { patience: 5_000 };
      await site.ended(site.start({ to: ROWS, late: [7, 23], plant, ...patience, final: true }));
      return site;
    };

    const lookless: Fault = ['cursor without looks', interleaved, ['lost', 'not drained']];
    const faults: Fault[] = [
      ['commit before the sink', (plant) => killed(plant, 'commit: after', 1), ['lost']],
      ['claim after the handler', (plant) => killed(plant, 'commit: after', 1), ['handled after its commit']],
      ['no fence on commit', stopped, ['committed twice']],
      ...(store === 'mongo' ? [lookless] : []),
      ['dedupe record before the message', (plant) => killed(plant, 'append: before', 2), ['lost']],
    ];
    // That a kill alone breaks nothing is what faults.spec.ts shows.
    const late: Arrangement = ['messages that come to light late', () => interleaved(undefined)];
    const sound: Arrangement[] = [
      ['a holder that is stopped and resumes after the takeover', () => stopped(undefined)],
      ...(store === 'mongo' ? [late] : []),
    ];

    for (const [plant, arrange, expected] of faults) {
      it(`${store}: ${plant} is reported`, { timeout: 180_000 }, async () => {
        const site = await arrange(plant);
        expect([...kinds(site)]).toEqual(expect.arrayContaining(expected));
      });
    }

    for (const [what, arrange] of sound) {
      it(`${store}: there is nothing to report of ${what}`, { timeout: 180_000 }, async () => {
        const site = await arrange();
        expect(site.verdict().violations).toEqual([]);
        expect(site.verdict().appended).toBe(ROWS);
      });
    }
  }
});
