import assert from 'node:assert/strict';
import { Generator, manualSeed, torch, type Tensor } from '../../src/torch';
import { init } from '../../src/nn';
import { assertClose, numbers } from '../support/close';
import { golden } from '../support/golden';

describe('init', () => {
  const set = golden<{ gains: Record<string, number> }>('init');
  const cases: Record<string, (tensor: Tensor) => Tensor> = {
    kaiming_uniform: (tensor) => init.kaimingUniform_(tensor, { nonlinearity: 'relu' }),
    kaiming_uniform_slope: (tensor) => init.kaimingUniform_(tensor, { slope: 0.3, mode: 'fan_out' }),
    kaiming_normal: (tensor) => init.kaimingNormal_(tensor, { mode: 'fan_out', nonlinearity: 'relu' }),
    xavier_uniform: (tensor) => init.xavierUniform_(tensor),
    xavier_normal: (tensor) => init.xavierNormal_(tensor, { gain: 2 }),
    uniform: (tensor) => init.uniform_(tensor, -2, 3),
    normal: (tensor) => init.normal_(tensor, 1, 0.5),
  };

  for (const [name, fill] of Object.entries(cases)) {
    it(`${name} draws what PyTorch draws from the same seed`, () => {
      manualSeed(3);
      assertClose(fill(torch.empty([6, 5, 3, 3])), set.tensors[name]!, { atol: 1e-6, rtol: 1e-6 });
    });
  }

  it('knows the gains', () => {
    for (const [name, expected] of Object.entries(set.values.gains)) {
      assert.ok(Math.abs(init.gain(name as init.Nonlinearity) - expected) < 1e-12, name);
    }
  });

  it('takes a generator and leaves the default one alone', () => {
    manualSeed(1);
    const expected = numbers(torch.rand([4]));
    manualSeed(1);
    const fill = () => numbers(init.normal_(torch.empty([16]), 0, 1, { generator: new Generator({ seed: 2 }) }));
    assert.deepEqual(fill(), fill());
    assert.deepEqual(numbers(torch.rand([4])), expected);
  });

  it('keeps truncated values inside their bounds, with the mass where it belongs', () => {
    const generator = new Generator({ seed: 8 });
    const values = numbers(init.truncatedNormal_(torch.empty([20000]), 0, 1, -3, 0.5, { generator }));
    assert.ok(values.every((value) => value >= -3 && value <= 0.5));
    // E[X | -3 < X < 0.5] = (φ(-3) - φ(0.5)) / (Φ(0.5) - Φ(-3)) = -0.5045
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    assert.ok(Math.abs(mean + 0.5045) < 0.02, `mean ${mean}`);
  });

  it('fills with constants, also parameters that require gradients', () => {
    const tensor = torch.empty([3]).requiresGrad_();
    assert.deepEqual(numbers(init.ones_(tensor)), [1, 1, 1]);
    assert.deepEqual(numbers(init.zeros_(tensor)), [0, 0, 0]);
    assert.deepEqual(numbers(init.constant_(tensor, 2.5)), [2.5, 2.5, 2.5]);
    assert.ok(tensor.isLeaf);
  });

  it('computes fans, and refuses vectors', () => {
    assert.deepEqual(init.fans(torch.empty([6, 5, 3, 2])), { fanIn: 30, fanOut: 36 });
    assert.throws(() => init.fans(torch.empty([4])), /at least two dimensions, found shape \[4\]/);
    assert.throws(() => init.truncatedNormal_(torch.empty([2]), 0, 1, 2, -2), /need low < high/);
  });
});
