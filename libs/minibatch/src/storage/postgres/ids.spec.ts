import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { postgresUrl } from '../../../../../test/support/postgres-server.js';
import { formatId, isAmong, numberOf, numberSet, numbersOf } from './ids.js';

const ids = (...numbers: readonly number[]) => numbers.map(formatId);
const FOREIGN = ['', '12', 'x'.repeat(16), 'ffffffffffffffff', '0020000000000000', '00000000000000zz'];

describe('numbers of ids', () => {
  it('are the same for one id and for many', () => {
    const own = ids(1, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER);
    expect(numbersOf(own)).toEqual(own.map(numberOf));
    for (const foreign of FOREIGN) expect(numbersOf([...own, foreign])).toEqual([...own.map(numberOf), 0]);
    // Together they have as many digits as two ids.
    expect(numbersOf(['0'.repeat(8), '0'.repeat(24)])).toEqual([0, 0]);
  });
});

describe('a set of ids in SQL', () => {
  let client: pg.Client;

  beforeAll(async () => {
    client = new pg.Client({ connectionString: postgresUrl() });
    await client.connect();
  });
  afterAll(() => client.end());

  const found = async (...numbers: readonly number[]): Promise<number[]> => {
    const { array, low, high } = numberSet(ids(...numbers));
    const { rows } = await client.query<{ n: number }>(
      `select n::int as n from generate_series(0::bigint, 12) n where ${isAmong('n', { array: '$1', low: '$2::bigint', high: '$3::bigint' })}`,
      [array, low, high],
    );
    return rows.map(({ n }) => n);
  };

  it('has its own ids and no other', async () => {
    expect(await found()).toEqual([]);
    expect(await found(7)).toEqual([7]);
    expect(await found(3, 4, 5)).toEqual([3, 4, 5]);
    expect(await found(3, 5, 9)).toEqual([3, 5, 9]);
    expect(await found(3, 100)).toEqual([3]);
  });

  it('takes them in any order, and twice', async () => {
    expect(await found(9, 3, 5)).toEqual([3, 5, 9]);
    expect(await found(5, 4, 3)).toEqual([3, 4, 5]);
    expect(await found(3, 3, 5)).toEqual([3, 5]);
    expect(await found(5, 3, 3)).toEqual([3, 5]);
  });

  it('sends no list of ids without a gap', () => {
    expect(numberSet(ids(3, 4, 5)).array).toBeNull();
    expect(numberSet(ids(3, 5)).array).not.toBeNull();
    expect(numberSet(ids(3, 3, 5)).array).not.toBeNull();
  });
});
