import assert from 'node:assert/strict';
import { digest, Groups, integers, numbered } from '../../../src/negatives/sampling/groups';
import { scope, torch } from '../../../src/torch';

describe('groups of rows', () => {
  it('lists the rows of each group in order', () => {
    const groups = Groups.of(Int32Array.of(2, 0, 2, 3), 5);
    assert.deepEqual(
      [0, 1, 2, 3, 4].map((group) => Array.from(groups.of(group))),
      [[1], [], [0, 2], [3], []],
    );
    assert.deepEqual([groups.count, groups.sizeOf(2), groups.sizeOf(4)], [5, 2, 0]);
  });

  it('numbers keys by first sight', () => {
    const { numbers, count } = numbered(['b', 'a', 'b', 7]);
    assert.deepEqual([Array.from(numbers), count], [[0, 1, 0, 2], 3]);
  });

  it('reads integers from tensors and arrays, and refuses anything else', () => {
    scope(() => {
      for (const dtype of ['int64', 'int32', 'uint8'] as const) {
        assert.deepEqual(integers(torch.tensor([1, 2], { dtype }), 'x'), Int32Array.of(1, 2));
      }
      assert.deepEqual(integers(BigInt64Array.of(-5n), 'x'), Int32Array.of(-5));
      assert.throws(() => integers(torch.zeros([2]), 'x'), /x must be integers \[N\], found float32/);
      assert.throws(() => integers(torch.zeros([2, 2], { dtype: 'int64' }), 'x'), /found int64 \[2, 2\]/);
      for (const wrong of [0.5, NaN, 2 ** 31]) assert.throws(() => integers([1, wrong], 'x'), /32 bits, found .* at 1/);
      assert.throws(() => integers([1], 'x', 2), /x must be 2 integers, found 1/);
    });
  });

  it('tells different numbers apart', () => {
    const texts = [
      digest(Int32Array.of(1, 2)),
      digest(Int32Array.of(1, 3)),
      digest(Int32Array.of(1), Int32Array.of(2)),
      digest(Int32Array.of(1, 2), Int32Array.of()),
    ];
    assert.equal(new Set(texts).size, 4);
    assert.equal(digest(Int32Array.of(0, 1, 2).subarray(1)), texts[0]);
  });
});
