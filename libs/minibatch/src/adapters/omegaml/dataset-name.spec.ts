import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { checkDatasetName, collectionOf } from './dataset-name.js';

describe('the collection of a new dataset', () => {
  // As omega|ml 0.18.0 names them.
  it.each([
    ['mydata', '40f29547305ebe23ade0fbe0d07a8ec154cf062a'],
    ['a/b', '271981e2e58b749cd29b584ec24fd65c67de3c9b'],
    ['über', 'e06c3bc27f4cc3bb227dc0eaa7fae8292961a60c'],
    ['a..b', '0c9772c27784e687838d974427dd5b7ac22fe761'],
    ['x.datastore', '5f57834eb27c81db9fc5c498dccca36a25e8f58a'],
    ['a b', '074fb65680973cb0de19e213f8540009547d053d'],
    ['../x', '2961e7fecbd4c554064bdad5487c20199f223518'],
  ])('of %s', (name, collection) => {
    expect(collectionOf('omegaml', name, true)).toBe(collection);
  });

  it('has a clear name where names are not hashed', () => {
    expect(collectionOf('omegaml', 'a/b', false)).toBe('omegaml.data_.a_b.datastore');
    expect(collectionOf('team', 'x.datastore', false)).toBe('team.data_.x.datastore');
  });
});

describe('the name of a dataset', () => {
  it('is any that Python reads as a name', () => {
    for (const name of ['mydata', 'a/b', 'über alles', '.hidden', '_temp']) {
      expect(checkDatasetName('Rows', name)).toBe(name);
    }
  });

  it.each(['', 5, undefined, 'a\0b', 'a[x,y]', 'a@v1', 'a#head', 'a{x: 1}'])('is not %j', (name) => {
    expect(() => checkDatasetName('Rows', name)).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions, message: expect.stringContaining('Rows: dataset is') }),
    );
  });
});
