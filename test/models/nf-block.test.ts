import assert from 'node:assert/strict';
import { autocast, gradcheck, noGrad, torch } from '../../src/torch';
import { NFBlock } from '../../src/models/nf-block';
import { activationGain, activationOf, type NFActivation } from '../../src/norm/activation-gain';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const dtype = 'float64';
const images = () => torch.randn([2, 3, 5, 5], { dtype, device });

describe('NFBlock', () => {
  for (const activation of ['relu', 'silu'] as const satisfies NFActivation[]) {
    for (const stride of [1, 2]) {
      it(`is its formula: ${activation}, stride ${stride}`, () => {
        const options = { inChannels: 3, outChannels: 3, stride, alpha: 0.3, beta: 1.7, activation };
        const block = new NFBlock(options).to({ dtype, device });
        block.skipGain!.detach().fill_(0.6);
        // The gains of the formula stand before plain standardised filters.
        const gamma = activationGain(activation);
        const f = (x: ReturnType<typeof images>) => activationOf(activation).apply(x).mul(gamma);
        const plain = (conv: NFBlock['conv1']) => conv.standardizedWeight().div(conv.gamma);
        const x = images();
        const active = f(x.div(1.7));
        const inner = torch.conv2d(active, plain(block.conv1), null, stride, 1);
        const branch = torch.conv2d(f(inner), plain(block.conv2), null, 1, 1);
        const kept = block.shortcut === null ? x : torch.conv2d(active, plain(block.shortcut), null, stride);
        assertClose(block.forward(x), kept.add(branch.mul(0.3 * 0.6)), { atol: 1e-10 });
        assert.equal(block.shortcut === null, stride === 1);
      });
    }
  }

  it('starts as its shortcut with SkipInit, and says what deviation to expect', () => {
    const block = new NFBlock({ inChannels: 3, outChannels: 3, beta: 2, alpha: 0.5 }).to({ dtype, device });
    const x = images();
    assertClose(block.forward(x), x, { atol: 0 });
    assert.equal(block.expectedDeviation, Math.sqrt(4.25));
    const wider = new NFBlock({ inChannels: 3, outChannels: 4, beta: 2, alpha: 0.5, skipInit: false });
    assert.equal(wider.expectedDeviation, Math.sqrt(1.25));
    assert.equal(wider.skipGain, null);
  });

  it('passes the finite-difference check', () => {
    const block = new NFBlock({ inChannels: 3, outChannels: 2, stride: 2 }).to({ dtype, device });
    noGrad(() => block.skipGain!.fill_(0.7));
    gradcheck((input) => block.forward(input), [images().requiresGrad_(), ...block.parameters()], { probes: 25 });
  });

  it('works in bfloat16, under autocast and in channels-last memory', () => {
    const block = new NFBlock({ inChannels: 3, outChannels: 4 }).to({ device });
    noGrad(() => block.skipGain!.fill_(1));
    const x = images().to({ dtype: 'float32' });
    const y = block.forward(x);
    const cast = autocast({ device: device.split(':')[0], dtype: 'bfloat16' }, () => block.forward(x));
    assertClose(cast.to({ dtype: 'float32' }), y, { atol: 0.1, rtol: 0.1 });
    block.to({ memoryFormat: 'channels_last' });
    const last = block.forward(x.contiguous({ memoryFormat: 'channels_last' }));
    assertClose(last, y, { atol: 1e-5 });
    assert.ok(last.isContiguous('channels_last'));
    assert.equal(block.to('bfloat16').forward(x.to({ dtype: 'bfloat16' })).dtype, 'bfloat16');
  });

  it('refuses what makes no sense', () => {
    assert.throws(() => new NFBlock({ inChannels: 3, outChannels: 3, beta: 0 }), /beta must be more than 0/);
    assert.throws(
      () => new NFBlock({ inChannels: 3, outChannels: 3, alpha: -1 }),
      /alpha must be a number of at least 0/,
    );
    assert.throws(
      () => new NFBlock({ inChannels: 3, outChannels: 3, activation: 'mish' as NFActivation }),
      /activation must be one of/,
    );
    assert.deepEqual(numbers(new NFBlock({ inChannels: 3, outChannels: 3 }).skipGain!), [0]);
  });
});
