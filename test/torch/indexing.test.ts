import assert from 'node:assert/strict';
import { slice, torch, TorchIndexError } from '../../src/torch';

describe('indexing', () => {
  const x = torch.arange(24).reshape([2, 3, 4]).to('float32');

  it('takes entries, ranges, new dimensions and the rest', () => {
    assert.equal(x.at(1, 2, 3).itemSync(), 23);
    assert.equal(x.at(-1, -1, -1).itemSync(), 23);
    assert.deepEqual(x.at(0, slice(1)).toArraySync(), [
      [4, 5, 6, 7],
      [8, 9, 10, 11],
    ]);
    assert.deepEqual(x.at('...', 0).toArraySync(), [
      [0, 4, 8],
      [12, 16, 20],
    ]);
    assert.deepEqual(x.at(0, 0, slice(null, null, 2)).toArraySync(), [0, 2]);
    assert.deepEqual(x.at(0, 0, slice(-2, null)).toArraySync(), [2, 3]);
    assert.deepEqual(x.at(null, 0).shape, [1, 3, 4]);
    assert.deepEqual(x.at(0, null, '...', slice(1, 3), null).shape, [1, 3, 2, 1]);
    assert.deepEqual(x.at().shape, [2, 3, 4]);
  });

  it('shares memory for entries and ranges', () => {
    const y = torch.zeros([2, 2]);
    y.at(0).add_(1);
    y.at(slice(), 1).mul_(5);
    assert.deepEqual(y.toArraySync(), [
      [1, 5],
      [0, 0],
    ]);
  });

  it('picks by positions and by masks', () => {
    assert.deepEqual(x.at(0, torch.tensor([2n, 0n]), 1).toArraySync(), [9, 1]);
    assert.deepEqual(x.at(x.gt(21)).toArraySync(), [22, 23]);
    assert.deepEqual(x.at(torch.tensor([true, false])).shape, [1, 3, 4]);
    assert.deepEqual(x.at(slice(), torch.tensor([0n, 2n]), slice(0, 1)).toArraySync(), [
      [[0], [8]],
      [[12], [20]],
    ]);
  });

  it('refuses what is out of range', () => {
    assert.throws(() => x.at(2), TorchIndexError);
    assert.throws(() => x.at(0, 0, 0, 0), /an index of 4 dimensions does not fit shape \[2, 3, 4\]/);
    assert.throws(() => x.at('...', '...'), /at most one/);
  });
});
