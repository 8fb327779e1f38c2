import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { Conv2d, ReLU, Sequential } from '../../src/nn';
import { ResidualEncoder } from '../../src/models';
import { BatchNorm2d } from '../../src/norm/batch-norm2d';
import { ConvBN2d } from '../../src/norm/conv-bn2d';
import { convertConvBN, setConvBNMode } from '../../src/norm/convert-conv-bn';
import { assertClose } from '../support/close';
import { device } from '../support/device';
import { fill } from '../support/residual';

const dtype = 'float64';
const encoder = () => {
  const made = new ResidualEncoder({ inChannels: 2, widths: [4, 6] }).to({ dtype, device });
  fill(made, 7);
  return made;
};

describe('convertConvBN and setConvBNMode', () => {
  for (const check of [true, false]) {
    it(`makes blocks of an encoder's pairs, with the same parameters: ${check ? 'by an input' : 'by structure'}`, () => {
      const [plain, converted] = [encoder(), encoder()];
      const x = torch.randn([3, 2, 8, 8], { dtype, device });
      const parameters = new Set(converted.parameters());
      assert.equal(convertConvBN(converted, { unpaired: 'error', ...(check ? { check: x } : {}) }), converted);
      assert.deepEqual(new Set(converted.parameters()), parameters);
      // The stem, two a block, and one shortcut.
      assert.equal(setConvBNMode(converted, 'train'), 6);
      assertClose(converted.forward(x), plain.forward(x), { atol: 1e-12 }, 'train');
      for (const model of [plain, converted]) model.eval();
      const expected = plain.forward(x);
      assertClose(converted.forward(x), expected, { atol: 1e-10 }, 'eval');
      converted.train();
      setConvBNMode(converted, 'tune');
      assertClose(converted.forward(x), expected, { atol: 1e-10 }, 'tune');
      setConvBNMode(converted, 'deploy');
      assertClose(converted.forward(x), expected, { atol: 1e-10 }, 'deploy');
    });
  }

  it('replaces the children of a Sequential and keeps their names', () => {
    const conv = new Conv2d({ inChannels: 1, outChannels: 2, kernelSize: 1 });
    const model = new Sequential({ first: conv, norm: new BatchNorm2d({ features: 2 }), last: new ReLU() }).eval();
    const converted = convertConvBN(model);
    assert.equal(converted, model);
    assert.deepEqual([...converted.namedChildren().keys()], ['first', 'norm', 'last']);
    assert.ok(converted.at(0) instanceof ConvBN2d);
    assert.equal(converted.training, false);
    assert.equal((converted.at(0) as ConvBN2d).mode, 'eval');
  });

  it('keeps or refuses norms that follow no convolution', () => {
    const model = () => new Sequential(new ReLU(), new BatchNorm2d({ features: 2 }));
    const kept = model();
    assert.equal(convertConvBN(kept), kept);
    assert.throws(() => convertConvBN(model(), { unpaired: 'error' }), /1: follows a ReLU, which is no convolution/);
  });
});
