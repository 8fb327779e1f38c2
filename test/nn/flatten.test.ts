import { torch } from '../../src/torch';
import { Flatten } from '../../src/nn';
import { device } from '../support/device';
import { golden } from '../support/golden';
import { checkGoldenLayer } from '../support/golden-layer';
import { gradcheck } from '../../src/torch';

describe('Flatten', () => {
  const set = golden('layers');

  it('equals PyTorch, forward and backward', () => {
    checkGoldenLayer(set, 'flatten', new Flatten());
  });

  it('passes the finite-difference check', () => {
    const x = torch.randn([2, 2, 5, 6], { dtype: 'float64', device }).requiresGrad_();
    gradcheck((input) => new Flatten().forward(input), [x]);
  });
});
