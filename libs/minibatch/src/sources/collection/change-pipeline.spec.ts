import { describe, expect, it } from 'vitest';
import { changePipeline } from './change-pipeline.js';

describe('changePipeline', () => {
  it('looks for the fields in the event', () => {
    const filter = { state: 'paid', $or: [{ 'a.b': 1 }, { $and: [{ c: { $gt: 1 } }] }], list: ['x'] };
    expect(changePipeline(['insert'], filter, undefined)).toEqual([
      {
        $match: {
          $or: [
            { operationType: 'invalidate' },
            {
              $and: [
                { operationType: { $in: ['insert'] } },
                {
                  'fullDocument.state': 'paid',
                  $or: [{ 'fullDocument.a.b': 1 }, { $and: [{ 'fullDocument.c': { $gt: 1 } }] }],
                  'fullDocument.list': ['x'],
                },
              ],
            },
          ],
        },
      },
    ]);
  });

  it('keeps what the source itself needs of the event', () => {
    expect(changePipeline(['insert'], {}, { 'a.b': 1 })[1]).toEqual({
      $project: { operationType: 1, documentKey: 1, clusterTime: 1, 'fullDocument._id': 1, 'fullDocument.a.b': 1 },
    });
    expect(changePipeline(['insert'], {}, { secret: 0 })[1]).toEqual({ $project: { 'fullDocument.secret': 0 } });
    expect(changePipeline(['insert'], {}, {})).toHaveLength(1);
  });
});
