import { createConnection } from 'mongoose';
import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { DatasetSink } from './dataset.sink.js';
import { DatasetSource } from './dataset.source.js';

const connection = createConnection();
class Rows extends DatasetSource {}
class Sums extends DatasetSink {}

const invalid = (message: string) =>
  expect.objectContaining({ code: ErrorCode.InvalidOptions, message: expect.stringContaining(message) });

describe.each([
  ['a source', Rows, 'Rows'],
  ['a sink', Sums, 'Sums'],
] as const)('options of %s', (_, Adapter, name) => {
  const make = (options: unknown) => () => new Adapter(options as never);

  it.each([
    [undefined, `${name}: options is undefined; allowed: an object; in your constructor, call super(`],
    [{ connection }, 'dataset is undefined'],
    [{ connection, dataset: 'a@b' }, `${name}: dataset is 'a@b'`],
    [{ dataset: 'a' }, 'connection is undefined; allowed: a connection of Mongoose'],
    [{ connection: 'mongodb://…', dataset: 'a' }, 'connection is'],
    [{ connection, dataset: 'a', bucket: '' }, 'bucket is'],
    [
      { connection, dataset: 'a', datset: 'b' },
      "unknown option 'datset'; did you mean 'dataset'? Allowed: connection, dataset, bucket",
    ],
    [{ connection, dataset: 'a', collection: 'b' }, "unknown option 'collection'"],
    [{ connection, dataset: 'a', batch: 0 }, 'batch is 0'],
  ])('%j', (options, message) => {
    expect(make(options)).toThrow(invalid(message));
  });

  it('need no more than the dataset', () => {
    expect(make({ connection, dataset: 'a' })).not.toThrow();
  });
});

it.each([
  [{ missing: 'ignore' }, "Rows: missing is 'ignore'; allowed: 'wait', 'fail'"],
  [{ map: 5 }, 'map is 5'],
  [{ key: 5 }, 'key is 5'],
  [{ mode: 'tail' }, 'mode is'],
  [{ pollInterval: 1 }, 'pollInterval is 1'],
])('a source does not take %j', (options, message) => {
  expect(() => new Rows({ connection, dataset: 'a', ...options } as never)).toThrow(invalid(message));
});

it.each([
  [{ kind: 'pandas.hdf' }, "Sums: kind is 'pandas.hdf'; allowed: 'pandas.rawdict', 'python.data', 'pandas.dfrows'"],
  [{ hashedNames: 'no' }, 'hashedNames is'],
])('a sink does not take %j', (options, message) => {
  expect(() => new Sums({ connection, dataset: 'a', ...options } as never)).toThrow(invalid(message));
});
