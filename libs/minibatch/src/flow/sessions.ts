import { Call, Drafts, putEach, takeWithout, type WindowFacts } from './call.js';
import type { ContentKind, Held } from './content.js';
import { SESSIONS, type Session, type SessionRow, sessionShape, sessionSlot } from './session-rows.js';
import { kindOf } from './slot.js';
import type { FiredWindow, Row, StateView, Step, Taken, TimedItem, WindowLogic } from './window-logic.js';
import type { SessionRules } from './window-rules.js';

/**
 * Sessions by key: [first message, last message + `gap`), and no longer than `longest`. Messages at a distance of `gap` are in one session; one
 * that comes between two sessions makes them one, if that is not too long. A session that has closed takes no more, even if nobody has
 * fired it yet. One row a key, which is due at the first end.
 *
 * Late messages get sessions of their own, which are gathered for `gap` and never join one that was not late.
 */
export class SessionWindows implements WindowLogic {
  constructor(
    private readonly content: ContentKind,
    private readonly rules: SessionRules,
  ) {}

  needs(items: readonly TimedItem[]): readonly string[] {
    return [...new Set(items.map(({ key }) => sessionSlot(key)))];
  }

  take(items: readonly TimedItem[], step: Step): Taken {
    const attempt = (left: readonly TimedItem[], call: Call) => {
      const rows = this.drafts(step.state);
      putEach(left, call, (item) => this.put(item, rows, call));
      for (const [, { sessions }] of rows.entries()) for (const { held } of sessions) call.finish(held);
      return () => rows.save();
    };
    return takeWithout(items, () => new Call(step, this.content), attempt);
  }

  needsToFire(): readonly string[] {
    return [];
  }

  fire(due: readonly Row[], step: Step): readonly FiredWindow[] {
    return this.fireThose(due, step, (session) => this.dueOf(session) <= step.mark).fired;
  }

  needsToFlush(): readonly string[] {
    return [];
  }

  flush(rows: readonly Row[], step: Step): { readonly fired: readonly FiredWindow[]; readonly raise: number } {
    const { fired, sessions } = this.fireThose(
      rows.filter(({ slot }) => kindOf(slot) === SESSIONS),
      step,
      () => true,
    );
    const ends = sessions.map((session) => (session.late === undefined ? this.endOf(session) : -Infinity));
    return { fired, raise: ends.reduce((latest, end) => Math.max(latest, end), -Infinity) };
  }

  private fireThose(due: readonly Row[], step: Step, isFired: (session: Session) => boolean) {
    const call = new Call(step, this.content);
    const rows = this.drafts(step.state);
    const all: Session[] = [];
    for (const { slot } of due) {
      const row = rows.get(slot);
      if (!row) continue;
      const fired = row.sessions
        .filter(isFired)
        .sort((a, b) => this.endOf(a) - this.endOf(b) || a.start - b.start)
        .slice(0, step.most);
      for (const session of fired) this.fireSession(row.key, session, call, this.dueOf(session) > step.mark);
      row.sessions = row.sessions.filter((session) => !fired.includes(session));
      all.push(...fired);
      this.keep(slot, row, rows);
    }
    rows.save();
    return { fired: call.fired, sessions: all };
  }

  private drafts(state: StateView): Drafts<SessionRow> {
    return new Drafts(
      state,
      sessionShape(this.content, (session) => this.dueOf(session)),
    );
  }

  private keep(slot: string, row: SessionRow, rows: Drafts<SessionRow>): void {
    if (row.sessions.length === 0) rows.remove(slot);
    else rows.put(slot, row);
  }

  private endOf({ start, last }: Pick<Session, 'start' | 'last'>): number {
    return Math.min(last + this.rules.gap, start + this.rules.longest);
  }

  private dueOf(session: Session): number {
    return session.late ?? this.endOf(session);
  }

  private put(item: TimedItem, rows: Drafts<SessionRow>, call: Call): void {
    const { key, mark } = item;
    const slot = sessionSlot(key);
    const row = rows.get(slot) ?? { key, sessions: [] };
    const isOpen = (session: Session) => session.late === undefined && this.endOf(session) > mark;
    const joined = this.joinedBy(item, row, isOpen, mark);
    const own = { start: item.time, last: item.time };
    const isLate = joined.length === 0 && this.endOf(own) <= mark;
    if (!isLate) {
      this.join(item, row, joined, call);
      rows.put(slot, row);
      return;
    }
    const { lateness, lateWindows } = this.rules;
    if (!lateWindows && mark >= this.endOf(own) + lateness) {
      call.late.push({ item, windows: [{ start: own.start, end: this.endOf(own) }], taken: false });
      return;
    }
    const lateOnes = this.joinedBy(item, row, ({ late }) => late !== undefined && late > mark, -Infinity);
    const due = Math.min(mark + this.rules.gap, ...lateOnes.map(({ late = Infinity }) => late));
    this.join(item, row, lateOnes, call, due);
    call.lateTaken += 1;
    rows.put(slot, row);
  }

  /**
   * The sessions that the item makes one, in order of time; none that would be too long with it.
   *
   * @param mark where that one must not have ended: a message from before a session can move the end to which it may go on
   */
  private joinedBy(
    { time }: TimedItem,
    row: SessionRow,
    isOpen: (session: Session) => boolean,
    mark: number,
  ): readonly Session[] {
    const near = row.sessions
      .filter((session) => isOpen(session) && session.start <= time + this.rules.gap && time <= this.endOf(session))
      .sort((a, b) => a.start - b.start || a.last - b.last);
    const joined: Session[] = [];
    let [start, last] = [time, time];
    for (const session of near) {
      const [from, to] = [Math.min(start, session.start), Math.max(last, session.last)];
      if (to - from >= this.rules.longest || this.endOf({ start: from, last: to }) <= mark) continue;
      [start, last] = [from, to];
      joined.push(session);
    }
    return joined;
  }

  private join(item: TimedItem, row: SessionRow, joined: readonly Session[], call: Call, late?: number): void {
    const [first] = joined;
    const leads = this.rules.leading && late === undefined && !first;
    // One session alone goes on in place; of several, nothing changes before all has succeeded.
    const held = joined.length === 1 && first ? first.held : this.content.merge(joined.map((each) => each.held));
    const session: Session = {
      start: Math.min(item.time, ...joined.map(({ start }) => start)),
      last: Math.max(item.time, ...joined.map(({ last }) => last)),
      held,
      ...(late !== undefined && { late, openedBy: first?.openedBy ?? item.id }),
      size: joined.reduce((sum, { size }) => sum + size, leads ? 0 : 1),
    };
    if (leads) this.lead(item, row.key, call);
    else this.content.add(held, item);
    row.sessions = [...row.sessions.filter((each) => !joined.includes(each)), session];
  }

  /** The first message of a session, at once. */
  private lead(item: TimedItem, key: string, call: Call): void {
    const held = this.content.empty();
    this.content.add(held, item);
    call.finish(held);
    const bounds = { start: item.time, end: item.time + this.rules.gap };
    this.fireHeld({ key, ...bounds, openedBy: item.id, revision: 0, late: false, partial: true }, held, call);
  }

  private fireSession(key: string, session: Session, call: Call, partial: boolean): void {
    const { start, held, late, openedBy, size } = session;
    // Its only message was given at once.
    if (size === 0) return;
    const facts = {
      ...{ key, start, end: this.endOf(session), revision: 0, late: late !== undefined, partial },
      ...(openedBy !== undefined && { openedBy }),
    };
    this.fireHeld(facts, held, call);
  }

  private fireHeld(facts: WindowFacts, held: Held, call: Call): void {
    call.fire(
      facts,
      () => held,
      (given) => this.content.rows(given),
    );
  }
}
