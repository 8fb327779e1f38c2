import assert from 'node:assert/strict';

import { formatNumber, formatPercent, formatPoints, formatSimilarity } from '../../src/report/numbers';

describe('numbers for reading', () => {
  it('have separators and four significant digits', () => {
    const shown = [0, 1234567, -3, 281.234, 12345.6, 0.1, 0.0005, 0.00001834, -0.25, NaN, Infinity].map(formatNumber);
    assert.deepEqual(shown, [
      '0',
      '1,234,567',
      '−3',
      '281.2',
      '12,346',
      '0.1',
      '0.0005',
      '1.83e−5',
      '−0.25',
      'not a number',
      'infinite',
    ]);
  });

  it('are percentages, differences in points and similarities', () => {
    assert.equal(formatPercent(0.88125), '88.1%');
    assert.deepEqual([0.021, -0.0321, 0.0001, -0.0001].map(formatPoints), ['+2.1', '−3.2', '±0.0', '±0.0']);
    assert.deepEqual([0.934, -0.5, -0.001].map(formatSimilarity), ['0.93', '−0.50', '0.00']);
  });
});
