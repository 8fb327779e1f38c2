import { torch } from '../../src/torch';
import { GELU } from '../../src/nn';
import { device } from '../support/device';
import { golden } from '../support/golden';
import { checkGoldenLayer } from '../support/golden-layer';
import { gradcheck } from '../../src/torch';

describe('GELU', () => {
  const set = golden('layers');

  it('equals PyTorch, forward and backward', () => {
    checkGoldenLayer(set, 'gelu', new GELU());
    checkGoldenLayer(set, 'gelu_tanh', new GELU({ approximate: 'tanh' }));
  });

  it('passes the finite-difference check', () => {
    const x = torch.randn([3, 4], { dtype: 'float64', device }).requiresGrad_();
    gradcheck((input) => new GELU().forward(input), [x]);
  });
});
