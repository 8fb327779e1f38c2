import assert from 'node:assert/strict';
import { Generator, noGrad, scope, torch } from '../../src/torch';
import { Identity } from '../../src/nn';
import { ResNet18 } from '../../src/models';
import { assertClose } from '../support/close';
import { device, onCuda } from '../support/device';
import { golden } from '../support/golden';
import { fill } from '../support/residual';

describe('ResNet18', () => {
  const set = golden<Record<string, Record<string, number[]>>>('resnet18');
  const tolerance = onCuda ? { atol: 2e-2, rtol: 1e-2 } : { atol: 2e-5, rtol: 1e-4 };

  for (const [name, inChannels, size] of [
    ['small_image', 1, 28],
    ['large_image', 3, 64],
  ] as const) {
    // prettier-ignore
    it(`has torchvision's names and PyTorch's values: ${name}`, () => {
      scope(() => {
        const network = new ResNet18({ inChannels, smallImage: name === 'small_image' });
        const state = network.stateDict();
        const expected = set.values[name]!;
        assert.deepEqual([...state.keys()], Object.keys(expected));
        for (const [key, tensor] of state) assert.deepEqual([...tensor.shape], expected[key], key);
        fill(network, 6);
        network.to({ device });
        const x = torch.randn([3, inChannels, size, size], { generator: new Generator({ seed: 7 }) }).to({ device });
        noGrad(() => {
          network.eval();
          assertClose(network.forward(x), set.tensors[`${name}.eval`]!, tolerance, 'evaluation');
          network.train();
          assertClose(network.forward(x), set.tensors[`${name}.train`]!, tolerance, 'training');
        });
        const mean = network.namedBuffers().get('layer4.1.bn2.running_mean')!;
        assertClose(mean, set.tensors[`${name}.running_mean`]!, tolerance, 'running mean');
        network.dispose();
      });
    }).timeout(120_000);
  }

  it('takes another normalisation and a generator', () => {
    const make = () => new ResNet18({ norm: () => new Identity(), generator: new Generator({ seed: 3 }) });
    const [a, b] = [make(), make()];
    assert.ok([...a.stateDict().keys()].every((name) => !name.includes('bn')));
    assertClose(a.layer3.parameters()[0]!, b.layer3.parameters()[0]!, { atol: 0, rtol: 0 });
    [a, b].forEach((network) => network.dispose());
  });
});
