import assert from 'node:assert/strict';
import { cosineMomentum, risingMomentum } from '../../src/optim';

describe('momentum schedules', () => {
  it('cosineMomentum goes from the start to 1 and stays there', () => {
    const schedule = cosineMomentum({ start: 0.9, stepsTotal: 10 });
    [0.9, 0.95, 1, 1].forEach((expected, index) => {
      assert.ok(Math.abs(schedule([0, 5, 10, 20][index]!) - expected) < 1e-12);
    });
    assert.throws(() => cosineMomentum({ start: 1.1, stepsTotal: 10 }), /start must be a number from 0 to 1/);
  });

  it('risingMomentum rises to its limit', () => {
    const schedule = risingMomentum({ limit: 0.99 });
    assert.deepEqual([0, 8, 10000].map(schedule), [0.1, 0.5, 0.99]);
  });
});
