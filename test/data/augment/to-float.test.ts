import * as assert from 'node:assert/strict';
import { toFloat } from '../../../src/data/augment/to-float';
import { memory, torch } from '../../../src/torch';
import { InvalidArgumentError } from '../../../src/torch/errors';
import { device } from './support';

describe('toFloat', () => {
  it('divides bytes by 255', () => {
    const bytes = torch.arange(256).to('uint8').to(device);
    const before = memory().liveTensors;
    const result = toFloat(bytes);
    assert.equal(memory().liveTensors, before + 1);
    assert.equal(result.dtype, 'float32');
    Array.from(result.dataSync(), Number).forEach((value, i) => assert.equal(value, Math.fround(i / 255)));
    assert.equal(toFloat(bytes, 'float64').dtype, 'float64');
  });

  it('takes bytes only', () => {
    assert.throws(() => toFloat(torch.zeros([2])), InvalidArgumentError);
  });
});
