import assert from 'node:assert/strict';
import fc from 'fast-check';
import { median, pairedRatios, quantile, summarize } from '../../bench/harness/statistics';

describe('bench statistics', () => {
  it('takes the middle of an odd number of values and the mean of the middle two of an even number', () => {
    assert.equal(median([5, 1, 9]), 5);
    assert.equal(median([4, 1, 9, 2]), 3);
    assert.equal(median([7]), 7);
  });

  it('interpolates quartiles between neighbours', () => {
    assert.equal(quantile([1, 2, 3, 4], 0.25), 1.75);
    assert.equal(quantile([1, 2, 3, 4, 5], 0.75), 4);
  });

  it('summarizes without changing its input', () => {
    const values = [3, 1, 2];
    assert.deepEqual(summarize(values), {
      count: 3,
      minimum: 1,
      lowerQuartile: 1.5,
      median: 2,
      upperQuartile: 2.5,
      maximum: 3,
    });
    assert.deepEqual(values, [3, 1, 2]);
  });

  it('orders the five numbers, whatever the values', () => {
    const values = fc.array(fc.double({ noNaN: true, min: -1e6, max: 1e6 }), { minLength: 1, maxLength: 30 });
    fc.assert(
      fc.property(values, (list) => {
        const { minimum, lowerQuartile, median: middle, upperQuartile, maximum } = summarize(list);
        const slack = 1e-9 * (Math.abs(minimum) + Math.abs(maximum));
        assert.ok(minimum <= lowerQuartile + slack && lowerQuartile <= middle + slack);
        assert.ok(middle <= upperQuartile + slack && upperQuartile <= maximum + slack);
        assert.ok(minimum === Math.min(...list) && maximum === Math.max(...list));
      }),
    );
  });

  it('pairs ratios round by round', () => {
    // One round was ten times slower for both: a ratio of medians would not be 2 everywhere, pairs are.
    assert.deepEqual(pairedRatios([2, 20, 4], [1, 10, 2]), [2, 2, 2]);
  });

  it('refuses no values, values that are not finite, and unequal lengths', () => {
    assert.throws(() => median([]), /no values/);
    assert.throws(() => median([1, Number.NaN]), /finite number, not NaN/);
    assert.throws(() => quantile([1], 1.5), /0 to 1, not 1.5/);
    assert.throws(() => pairedRatios([1, 2], [1]), /2 and 1 given/);
  });
});
