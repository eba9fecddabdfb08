import { describe, expect, it } from 'vitest';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { key, owner } from '../../testing/store-contract/fixtures.js';
import type { Database, Queries, Session } from './database.js';
import { LeaseWrites, type LeaseWrite, Rank } from './lease-writes.js';
import { type Statement, statement } from './sql.js';

const lease = { key: key(), owner: owner('a'), fence: 1 };

function write(what: keyof typeof Rank, ...steps: readonly string[]): LeaseWrite {
  return {
    what,
    rank: Rank[what],
    steps: steps.map((text) => ({
      statement: { synced: statement(`${text}, synced`), unsynced: statement(text) },
      values: [],
    })),
  };
}

/** A server that answers each statement with its text, and the connections that it has seen. */
function server(answer: (text: string) => object[] = (text) => [{ text }]) {
  const sessions: string[][] = [];
  const database = {
    session: async <R>(_what: string, work: (session: Session) => Promise<R>): Promise<R> => {
      const texts: string[] = [];
      sessions.push(texts);
      const queries: Queries = {
        query: async <T extends object>({ text }: Statement) => {
          texts.push(text);
          return answer(text) as T[];
        },
        script: () => Promise.reject(new Error('no script is expected')),
      };
      const transaction = async <T>(inner: (queries: Queries) => Promise<T>): Promise<T> => {
        texts.push('begin');
        const result = await inner(queries).catch((error: unknown) => {
          texts.push('rollback');
          throw error;
        });
        texts.push('commit');
        return result;
      };
      return work({ ...queries, transaction });
    },
  };
  return { sessions, writes: new LeaseWrites(database as unknown as Database) };
}

describe('writes under a lease', () => {
  it('of one turn share a connection, the commit point comes last, and only the last statement waits for the disk', async () => {
    const { sessions, writes } = server();
    const rows = await Promise.all([
      writes.write(lease, write('Commit', 'commit')),
      writes.write(lease, write('Claim', 'claim')),
      writes.write(lease, write('Settle', 'mark', 'leave')),
    ]);
    expect(sessions).toEqual([['mark', 'leave', 'claim', 'commit, synced']]);
    expect(rows).toEqual([{ text: 'commit, synced' }, { text: 'claim' }, { text: 'leave' }]);
  });

  it('wait for what is under way, and then go together', async () => {
    const { sessions, writes } = server();
    const first = writes.write(lease, write('Claim', 'claim 1'));
    const follow = first.then(() => Promise.all(['a', 'b'].map((text) => writes.write(lease, write('Settle', text)))));
    await follow;
    await writes.write(lease, write('Claim', 'claim 2'));
    expect(sessions).toEqual([['claim 1, synced'], ['a', 'b, synced'], ['claim 2, synced']]);
  });

  it('of different leases do not wait for each other', async () => {
    const { sessions, writes } = server();
    await Promise.all([
      writes.write(lease, write('Claim', 'one')),
      writes.write({ ...lease, fence: 2 }, write('Claim', 'other')),
    ]);
    expect(sessions).toEqual([['one, synced'], ['other, synced']]);
  });

  it('fail alone: what is refused does not hold up the others', async () => {
    const refused = new MinibatchError(ErrorCode.StoreDenied, 'no');
    const { writes } = server((text) => {
      if (text.startsWith('settle')) throw refused;
      return [{ text }];
    });
    const settled = writes.write(lease, write('Settle', 'settle'));
    const committed = writes.write(lease, write('Commit', 'commit'));
    await expect(settled).rejects.toBe(refused);
    expect(await committed).toEqual({ text: 'commit, synced' });
  });

  it('are not tried one by one if the server is away', async () => {
    const away = new MinibatchError(ErrorCode.StoreUnavailable, 'away');
    const { sessions, writes } = server(() => {
      throw away;
    });
    const all = await Promise.allSettled([
      writes.write(lease, write('Settle', 'settle')),
      writes.write(lease, write('Claim', 'claim')),
    ]);
    expect(all).toEqual([
      { status: 'rejected', reason: away },
      { status: 'rejected', reason: away },
    ]);
    expect(sessions).toHaveLength(1);
  });

  it('are one transaction with what is written together with them, behind the others of the turn', async () => {
    const { sessions, writes } = server();
    const effects = statement('rows');
    const together: LeaseWrite['together'] = async (queries, row) => {
      expect(row).toEqual({ text: 'point, synced' });
      await queries.query(effects, []);
    };
    const rows = await Promise.all([
      writes.write(lease, { ...write('Commit', 'point'), together }),
      writes.write(lease, write('Settle', 'settle')),
    ]);
    expect(sessions).toEqual([['settle', 'begin', 'point, synced', 'rows', 'commit']]);
    expect(rows).toEqual([{ text: 'point, synced' }, { text: 'settle' }]);
  });

  it('write nothing together with them when the lease is lost', async () => {
    const { sessions, writes } = server(() => []);
    const together = () => Promise.reject(new Error('must not be called'));
    const lost = writes.write(lease, { ...write('Commit', 'point'), together });
    await expect(lost).rejects.toMatchObject({ code: ErrorCode.LeaseLost });
    expect(sessions).toEqual([['begin', 'point, synced', 'rollback']]);
  });

  it('are refused when the lease is lost', async () => {
    const { writes } = server(() => []);
    const all = await Promise.allSettled([
      writes.write(lease, write('Settle', 'settle')),
      writes.write(lease, write('Claim', 'claim')),
    ]);
    const lost = { status: 'rejected', reason: expect.objectContaining({ code: ErrorCode.LeaseLost }) as unknown };
    expect(all).toEqual([lost, lost]);
  });
});
