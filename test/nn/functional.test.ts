import { torch } from '../../src/torch';
import { functional } from '../../src/nn';
import { assertClose } from '../support/close';
import { device } from '../support/device';
import { gradcheck } from '../../src/torch';

describe('functional.normalize', () => {
  it('scales rows to length one and leaves zeros', () => {
    const x = torch.tensor([[3, 4], [0, 0]], { device }); // prettier-ignore
    assertClose(functional.normalize(x), torch.tensor([[0.6, 0.8], [0, 0]])); // prettier-ignore
    assertClose(functional.normalize(x, { p: 1 }), torch.tensor([[3 / 7, 4 / 7], [0, 0]])); // prettier-ignore
  });

  it('works along another dimension', () => {
    const x = torch.tensor([[3, 0], [4, 2]], { device }); // prettier-ignore
    assertClose(functional.normalize(x, { dim: 0 }), torch.tensor([[0.6, 0], [0.8, 1]])); // prettier-ignore
  });

  it('passes the finite-difference check', () => {
    const x = torch.randn([4, 5], { dtype: 'float64', device }).requiresGrad_();
    gradcheck((input) => functional.normalize(input), [x]);
  });
});
