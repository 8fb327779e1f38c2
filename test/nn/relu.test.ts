import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { ReLU } from '../../src/nn';
import { device } from '../support/device';
import { golden } from '../support/golden';
import { checkGoldenLayer } from '../support/golden-layer';
import { gradcheck } from '../../src/torch';

describe('ReLU', () => {
  const set = golden('layers');

  it('equals PyTorch, forward and backward', () => {
    checkGoldenLayer(set, 'relu', new ReLU());
  });

  it('passes the finite-difference check', () => {
    const x = torch.randn([3, 4], { dtype: 'float64', device }).requiresGrad_();
    gradcheck((input) => new ReLU().forward(input), [x]);
  });

  it('can overwrite its input', () => {
    const x = torch.tensor([-1, 2], { device });
    new ReLU({ inPlace: true }).forward(x);
    assert.deepEqual(x.toArraySync(), [0, 2]);
  });
});
