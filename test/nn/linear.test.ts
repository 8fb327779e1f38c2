import assert from 'node:assert/strict';
import { InvalidArgumentError, Generator, manualSeed, torch } from '../../src/torch';
import { Linear } from '../../src/nn';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { golden } from '../support/golden';
import { checkGoldenLayer } from '../support/golden-layer';
import { gradcheck } from '../../src/torch';

describe('Linear', () => {
  const set = golden('layers');

  it('equals PyTorch, forward and backward', () => {
    checkGoldenLayer(set, 'linear', new Linear({ inFeatures: 5, outFeatures: 3 }));
    checkGoldenLayer(set, 'linear_no_bias', new Linear({ inFeatures: 5, outFeatures: 3, bias: false }));
  });

  it('equals a loop over outputs and inputs', () => {
    const layer = new Linear({ inFeatures: 3, outFeatures: 2, dtype: 'float64', device });
    const x = [0.5, -1, 2];
    const weight = numbers(layer.weight);
    const expected = numbers(layer.bias!).map((bias, out) =>
      x.reduce((sum, value, index) => sum + value * weight[out * 3 + index]!, bias),
    );
    const found = layer.forward(torch.tensor([x], { dtype: 'float64', device }));
    assertClose(found, torch.tensor([expected], { dtype: 'float64' }), { atol: 1e-14 });
  });

  it('passes the finite-difference check', () => {
    const layer = new Linear({ inFeatures: 3, outFeatures: 2, dtype: 'float64', device });
    const x = torch.randn([4, 3], { dtype: 'float64', device }).requiresGrad_();
    gradcheck((input) => layer.forward(input), [x, layer.weight, layer.bias!]);
  });

  it('starts with the values that PyTorch draws from the same seed', () => {
    const expected = golden('init').under('linear.');
    manualSeed(3);
    const layer = new Linear({ inFeatures: 20, outFeatures: 7 });
    assertClose(layer.weight, expected.get('weight')!, { atol: 0, rtol: 0 });
    assertClose(layer.bias!, expected.get('bias')!, { atol: 0, rtol: 0 });
  });

  it('takes a generator, a dtype and a device', () => {
    const make = () =>
      new Linear({ inFeatures: 2, outFeatures: 2, dtype: 'float64', generator: new Generator({ seed: 5 }) });
    assert.deepEqual(numbers(make().weight), numbers(make().weight));
    assert.equal(make().weight.dtype, 'float64');
    assert.equal(new Linear({ inFeatures: 2, outFeatures: 2, device: 'meta' }).weight.device, 'meta');
  });

  it('refuses sizes that are no positive integers', () => {
    assert.throws(() => new Linear({ inFeatures: 0, outFeatures: 2 }), {
      constructor: InvalidArgumentError,
      message: 'Linear: inFeatures must be an integer of at least 1, found 0',
    });
    assert.throws(() => new Linear({ inFeatures: 2, outFeatures: 1.5 }), /outFeatures .* found 1.5/);
  });
});
