import assert from 'node:assert/strict';
import { Generator, torch } from '../../src/torch';
import { activationGain, activationOf, type NFActivation } from '../../src/norm/activation-gain';

// From random samples, as published with the method; right to about three digits. Theirs for the leaky ReLU is at slope 0.01.
const published: Record<NFActivation, number> = {
  identity: 1,
  relu: 1.71396,
  leaky_relu: 1.7059,
  elu: 1.2716,
  selu: 1.00085,
  gelu: 1.7015,
  silu: 1.78813,
  softplus: 1.92033,
  tanh: 1.59391,
};

describe('activationGain', () => {
  it('is exact where a closed form is known', () => {
    assert.ok(Math.abs(activationGain('relu') - Math.SQRT2 / Math.sqrt(1 - 1 / Math.PI)) < 1e-8);
    assert.ok(Math.abs(activationGain('identity') - 1) < 1e-8);
  });

  it('lies near the published values and makes up for what each activation takes', () => {
    const z = torch.randn([400_000], { dtype: 'float64', generator: new Generator({ seed: 5 }) });
    for (const [name, value] of Object.entries(published) as [NFActivation, number][]) {
      assert.ok(Math.abs(activationGain(name) / value - 1) < 4e-3, name);
      const deviation = activationOf(name).apply(z).mul(activationGain(name)).std().itemSync();
      assert.ok(Math.abs(deviation - 1) < 0.01, name);
    }
  });

  it('refuses what it does not know', () => {
    assert.throws(
      () => activationGain('mish' as NFActivation),
      /activation must be one of identity, relu, .*found mish/,
    );
  });
});
