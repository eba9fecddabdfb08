import { describe, expect, it } from 'vitest';
import { changePipeline } from './change-pipeline.js';

describe('changePipeline', () => {
  it('looks for the fields in the event', () => {
    const filter = { state: 'paid', $or: [{ 'a.b': 1 }, { $and: [{ c: { $gt: 1 } }] }], list: ['x'] };
    expect(changePipeline(['insert'], filter, undefined, false)).toEqual([
      {
        $match: {
          $or: [
            { operationType: { $in: ['invalidate'] } },
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
    expect(changePipeline(['insert'], {}, { 'a.b': 1 }, false)[1]).toEqual({
      $project: { operationType: 1, documentKey: 1, clusterTime: 1, 'fullDocument._id': 1, 'fullDocument.a.b': 1 },
    });
    expect(changePipeline(['insert'], {}, { secret: 0 }, false)[1]).toEqual({ $project: { 'fullDocument.secret': 0 } });
    expect(changePipeline(['insert'], {}, {}, false)).toHaveLength(1);
  });

  it('lets deletes through where they are asked for', () => {
    expect(changePipeline(['insert'], {}, undefined, true)).toMatchObject([
      { $match: { $or: [{ operationType: { $in: ['invalidate', 'delete'] } }, {}] } },
    ]);
  });
});
