import assert from 'node:assert/strict';
import { Generator, gradcheck, noGrad, torch } from '../../src/torch';
import type { Sequential } from '../../src/nn';
import { NFBlock } from '../../src/models/nf-block';
import { NFResidualEncoder } from '../../src/models/nf-resnet';
import { BatchNorm } from '../../src/norm';
import { activationGain } from '../../src/norm/activation-gain';
import { signalPropagation } from '../../src/norm/signal-propagation';
import { assertClose } from '../support/close';
import { device } from '../support/device';

const dtype = 'float64';
const blocksOf = (network: NFResidualEncoder) => network.modules().filter((module) => module instanceof NFBlock);

describe('NFResidualEncoder', () => {
  it('tells each block the deviation to expect', () => {
    const network = new NFResidualEncoder({ inChannels: 1, widths: [2, 3], blocksPerStage: [2, 3], alpha: 0.5 });
    const grown = (blocks: number) => Math.sqrt(1 + blocks * 0.25);
    // Back to 1 and one branch on after the first block of the second stage, which changes the shape.
    const expected = [1, grown(1), grown(2), grown(1), grown(2)];
    blocksOf(network).forEach(({ beta }, index) => assert.ok(Math.abs(beta - expected[index]!) < 1e-12));
  });

  it('keeps the signal as planned, at full branch strength', () => {
    const generator = new Generator({ seed: 4 });
    const options = { inChannels: 16, widths: [64, 64], strides: [1, 2], blocksPerStage: 3, generator };
    const network = new NFResidualEncoder({ ...options, skipInit: false, alpha: 0.5 });
    const rows = signalPropagation(network, { shape: [8, 16, 12, 12], generator });
    const planned = [1, 1.25, 1.5, 1.75, 1.25, 1.5, 1.75];
    assert.equal(rows.length, planned.length);
    rows.forEach(({ variance, residualVariance }, depth) => {
      // Zeros around small images take some of it away.
      assert.ok(Math.abs(variance / planned[depth]! - 1) < 0.25, `depth ${depth}: ${variance}`);
      if (depth === 0) return;
      assert.ok(residualVariance! > 0.5 && residualVariance! < 1.3, `depth ${depth}: branch ${residualVariance}`);
    });
  });

  it('gives each sample what it would get alone, in training too, and starts as its shortcuts', () => {
    const network = new NFResidualEncoder({ inChannels: 1, widths: [3, 4] }).to({ dtype, device });
    const x = torch.randn([4, 1, 8, 8], { dtype, device });
    const y = network.forward(x);
    assert.deepEqual(y.shape, [4, network.outputSize]);
    assertClose(network.forward(x.narrow(0, 1, 1)), y.narrow(0, 1, 1), { atol: 1e-12 });
    assertClose(network.eval().forward(x), y, { atol: 0 });
    assert.ok(network.modules().every((module) => !(module instanceof BatchNorm)));
    const [first, second] = blocksOf(network) as [NFBlock, NFBlock];
    const stem = network.conv1.forward(x);
    assert.equal(first.shortcut, null);
    const last = second.shortcut!.forward(stem.div(second.beta).relu().mul(second.beta));
    assertClose(y, last.relu().mean([2, 3]).mul(activationGain('relu')), { atol: 1e-12 });
  });

  it('averages fields of the image', () => {
    const options = { inChannels: 1, widths: [3, 4], generator: new Generator({ seed: 1 }) };
    const network = new NFResidualEncoder({ ...options, poolSize: 2 }).to({ dtype, device });
    const whole = new NFResidualEncoder(options).to({ dtype, device });
    whole.loadStateDict(network.stateDict());
    const x = torch.randn([2, 1, 8, 8], { dtype, device });
    const fields = network.forward(x);
    assert.deepEqual(fields.shape, [2, network.outputSize]);
    assertClose(fields.view([2, 4, 4]).mean([2]), whole.forward(x), { atol: 1e-12 });
    assert.throws(
      () => network.forward(torch.zeros([1, 1, 2, 2], { dtype, device })),
      /poolSize 2 is more than the last image has/,
    );
  });

  it('passes the finite-difference check', () => {
    const network = new NFResidualEncoder({ inChannels: 1, widths: [2, 3], activation: 'gelu' }).to({ dtype, device });
    noGrad(() => blocksOf(network).forEach(({ skipGain }) => skipGain!.fill_(0.5)));
    const x = torch.randn([2, 1, 4, 4], { dtype, device }).requiresGrad_();
    gradcheck((input) => network.forward(input), [x, ...network.parameters()], { probes: 6 });
  });

  it('refuses lists of different lengths and even windows', () => {
    assert.throws(
      () => new NFResidualEncoder({ widths: [4, 8], strides: [1] }),
      /as many strides \(1\) and blocksPerStage \(2\) as widths \(2\)/,
    );
    assert.throws(() => new NFResidualEncoder({ stemKernelSize: 4 }), /stemKernelSize must be odd, found 4/);
    assert.throws(
      () => new NFResidualEncoder({ blocksPerStage: 0 }),
      /blocksPerStage must be an integer of at least 1/,
    );
    assert.equal((new NFResidualEncoder({ widths: [4], blocksPerStage: 2 }).stages.at(0) as Sequential).length, 2);
  });
});
