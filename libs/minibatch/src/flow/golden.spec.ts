import { describe, expect, it } from 'vitest';
import { HoppingWindows } from './hopping.js';
import { contentOf, Machine } from './machine.spec.support.js';
import { paneGrid } from './pane-grid.js';
import * as reference from './reference.spec.support.js';
import { SessionWindows } from './sessions.js';
import { TumblingWindows } from './tumbling.js';

interface Rules {
  readonly wait: number;
  readonly lateness?: number;
}

/** Ids are the times, so that a table can be read. */
function eventsOf(times: readonly number[]): readonly reference.Event[] {
  return times.map((time) => ({ id: String(time).padStart(2, '0'), key: 'k', time }));
}

/** Results as they stand in the tables, in order of their starts; what was late, and for which windows. */
function told({ windows, missed }: reference.Outcome): readonly string[] {
  const given = windows
    .toSorted((a, b) => a.start - b.start || a.revision - b.revision)
    .map(
      ({ start, end, ids }) =>
        `[${start},${end}) ${ids
          .map(Number)
          .toSorted((a, b) => a - b)
          .join(',')}`,
    );
  return [...given, ...missed.map(({ id, starts }) => `late ${Number(id)}: ${starts.join(' ')}`)];
}

function sliding(times: readonly number[], interval: number, every: number, { wait, lateness = 0 }: Rules) {
  const rules = { interval, every, wait, lateness, lateWindows: false, empty: false } as const;
  const logic = new HoppingWindows(contentOf('aggregate'), paneGrid({ interval, every, offset: 0 }), rules);
  const outcome = new Machine(logic, rules).run(eventsOf(times), reference.END);
  const expected = reference.hopping(eventsOf(times), { ...rules, revises: true });
  expect(reference.told(outcome)).toEqual(reference.told(expected));
  return told(outcome);
}

function sessions(times: readonly number[], gap: number, { wait, lateness = 0 }: Rules) {
  const rules = { gap, longest: Infinity, leading: false, wait, lateness, lateWindows: false };
  const outcome = new Machine(new SessionWindows(contentOf('aggregate'), rules), rules).run(
    eventsOf(times),
    reference.END,
  );
  expect(reference.told(outcome)).toEqual(reference.told(reference.sessions(eventsOf(times), rules)));
  return told(outcome);
}

const TIMES = [1, 4, 10, 7, 12, 3, 18, 26, 15, 40];

describe('the tables of the design', () => {
  it('sliding, 10 every 5, without a wait', () => {
    expect(sliding(TIMES, 10, 5, { wait: 0 })).toEqual([
      '[-5,5) 1,4',
      '[0,10) 1,4',
      '[5,15) 7,10,12',
      '[10,20) 10,12,18',
      '[15,25) 18',
      '[20,30) 26',
      '[25,35) 26',
      '[35,45) 40',
      '[40,50) 40',
      'late 7: 0',
      'late 3: -5 0',
      'late 15: 10 15',
    ]);
  });

  it('sliding, 10 every 5, with a wait of 2 and a lateness of 3', () => {
    const windows = sliding(TIMES, 10, 5, { wait: 2, lateness: 3 });
    expect(windows.filter((window) => window.startsWith('[0,10)'))).toEqual(['[0,10) 1,4,7', '[0,10) 1,3,4,7']);
    // It was open when 15 came: the mark was at 24.
    expect(windows.filter((window) => window.startsWith('[15,25)'))).toEqual(['[15,25) 15,18']);
  });

  it('sessions with a gap of 5 and a wait of 2', () => {
    expect(sessions(TIMES, 5, { wait: 2 })).toEqual([
      '[1,17) 1,3,4,7,10,12',
      '[18,23) 18',
      '[26,31) 26',
      '[40,45) 40',
      'late 15: 15',
    ]);
  });

  it('sessions with a gap of 5 and a wait of 20', () => {
    expect(sessions([0, 10, 5], 5, { wait: 20 })).toEqual(['[0,15) 0,5,10']);
    expect(sessions([0, 9, 30, 4, 60], 5, { wait: 20 })).toEqual(['[0,5) 0', '[4,14) 4,9', '[30,35) 30', '[60,65) 60']);
  });

  it('hopping, 5 every 1, with a grace of 1', () => {
    const counts = sliding([0, 3, 6, 5, 7, 1, 20], 5, 1, { wait: 1 })
      .filter((window) => window.startsWith('['))
      .map((window) => `${window.split(' ')[0]}=${window.split(',').length - 1}`);
    const wanted = ['[0,5)=2', '[1,6)=2', '[2,7)=3', '[3,8)=4', '[4,9)=3', '[5,10)=3', '[6,11)=2', '[7,12)=1'];
    expect(counts.filter((window) => wanted.some((each) => each.split('=')[0] === window.split('=')[0]))).toEqual(
      wanted,
    );
  });
});

describe('bounds', () => {
  it('a message on a boundary is in the window that begins there', () => {
    const rules = { wait: 0, lateness: 0, lateWindows: false };
    const logic = new TumblingWindows(contentOf('collect'), paneGrid({ interval: 10, every: 10, offset: 3 }), rules);
    expect(told(new Machine(logic, rules).run(eventsOf([12, 13, 22, 23]), 100))).toEqual([
      '[3,13) 12',
      '[13,23) 13,22',
      '[23,33) 23',
    ]);
  });

  it('a distance of the gap is one session, one more is two', () => {
    expect(sessions([0, 5, 11], 5, { wait: 50 })).toEqual(['[0,10) 0,5', '[11,16) 11']);
  });

  it('a session is no longer than its interval', () => {
    const rules = { gap: 2, longest: 10, leading: false, wait: 0, lateness: 0, lateWindows: false };
    const times = Array.from({ length: 23 }, (_, n) => n);
    const machine = new Machine(new SessionWindows(contentOf('collect'), rules), rules);
    expect(told(machine.run(eventsOf(times), 100))).toEqual([
      '[0,10) 0,1,2,3,4,5,6,7,8,9',
      '[10,20) 10,11,12,13,14,15,16,17,18,19',
      '[20,24) 20,21,22',
    ]);
  });

  it('a message from before a session does not end it', () => {
    const rules = { gap: 9, longest: 12, leading: false, wait: 0, lateness: 0, lateWindows: false };
    const machine = new Machine(new SessionWindows(contentOf('collect'), rules), rules);
    // With 0, the session would end at 12, and the mark is at 13.
    const events = [...eventsOf([9, 11]), { id: '13', key: 'other', time: 13 }, ...eventsOf([0, 12])];
    expect(told(machine.run(events, 100))).toEqual(['[9,21) 9,11,12', '[13,22) 13', 'late 0: 0']);
  });

  it('the first message at once, the rest at the end', () => {
    const rules = { gap: 5, longest: Infinity, leading: true, wait: 0, lateness: 0, lateWindows: false };
    const machine = new Machine(new SessionWindows(contentOf('collect'), rules), rules);
    machine.take([{ id: '01', key: 'k', time: 1 }]);
    expect(told(machine.outcome)).toEqual(['[1,6) 1']);
    expect(told(machine.run(eventsOf([2, 4, 30]), 100))).toEqual(['[1,6) 1', '[1,9) 2,4', '[30,35) 30']);
  });

  it('messages that are in late windows only are counted', () => {
    const rules = { interval: 10, every: 5, wait: 0, lateness: 0, lateWindows: true, empty: false } as const;
    const logic = new HoppingWindows(contentOf('collect'), paneGrid({ interval: 10, every: 5, offset: 0 }), rules);
    const machine = new Machine(logic, rules);
    // 7 is late for [0,10) and on time for [5,15); 3 is late for both of its windows.
    const windows = told(machine.run(eventsOf([1, 12, 7, 3]), 100));
    expect(windows.filter((window) => window.startsWith('[0,10)'))).toEqual(['[0,10) 1', '[0,10) 3,7']);
    expect(windows.filter((window) => window.startsWith('[5,15)'))).toEqual(['[5,15) 7,12']);
    expect(machine.lateTaken).toBe(1);
  });
});
