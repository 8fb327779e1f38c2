import assert from 'node:assert/strict';
import { Generator, torch } from '../../src/torch';
import { shuffledBatch } from '../../src/norm';
import { numbers } from '../support/close';
import { device } from '../support/device';

describe('shuffledBatch', () => {
  it('shows the encoder another order and gives the rows back in the given one', () => {
    const x = torch.arange(20, { dtype: 'float32', device }).view([20, 1]);
    let seen: number[] = [];
    const y = shuffledBatch(x, (shuffled) => {
      seen = numbers(shuffled);
      return shuffled.mul(2);
    });
    assert.notDeepEqual(seen, numbers(x));
    assert.deepEqual(
      [...seen].sort((a, b) => a - b),
      numbers(x),
    );
    assert.deepEqual(numbers(y), numbers(x.mul(2)));
  });

  it('takes the order from the generator alone', () => {
    const x = torch.arange(10, { dtype: 'float32', device });
    const orders = [1, 1, 2].map((seed) => {
      let seen: number[] = [];
      shuffledBatch(x, (shuffled) => ((seen = numbers(shuffled)), shuffled), { generator: new Generator({ seed }) });
      return seen;
    });
    assert.deepEqual(orders[0], orders[1]);
    assert.notDeepEqual(orders[0], orders[2]);
  });
});
