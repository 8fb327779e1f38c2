import assert from 'node:assert/strict';
import { torch, type Tensor } from '../../src/torch';
import { BatchNorm2d, SplitBatchNorm1d, SplitBatchNorm2d } from '../../src/norm';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { gradcheck } from '../../src/torch';
import { BatchNorm3d } from '../../src/norm/batch-norm3d';
import { SplitBatchNorm3d } from '../../src/norm/split-batch-norm3d';

const dtype = 'float64';
const images = (samples: number): Tensor => torch.randn([samples, 2, 3, 3], { dtype, device });

describe('SplitBatchNorm1d and SplitBatchNorm2d', () => {
  it('normalises each group of neighbours as a batch of its own', () => {
    const split = new SplitBatchNorm2d({ features: 2, splits: 3, device, dtype });
    const x = images(9);
    const expected = x.split(3).map((group) => new BatchNorm2d({ features: 2, device, dtype }).forward(group));
    assertClose(split.forward(x), torch.cat(expected), { atol: 1e-12 });
  });

  it('moves the running statistics to the mean of the groups', () => {
    const split = new SplitBatchNorm2d({ features: 2, splits: 3, device, dtype });
    const x = images(9);
    const groups = x.split(3).map((group) => {
      const layer = new BatchNorm2d({ features: 2, device, dtype });
      layer.forward(group);
      return layer;
    });
    split.forward(x);
    assertClose(split.runningMean!, torch.stack(groups.map((layer) => layer.runningMean!)).mean([0]), { atol: 1e-12 });
    assertClose(split.runningVar!, torch.stack(groups.map((layer) => layer.runningVar!)).mean([0]), { atol: 1e-12 });
    assert.deepEqual(numbers(split.numBatchesTracked!), [1]);
  });

  it('weighs unequal groups by their sizes, the first ones larger', () => {
    const split = new SplitBatchNorm2d({ features: 2, splits: 3, device, dtype, momentum: 1 });
    const x = images(8);
    const y = split.forward(x);
    const parts = x.split([3, 3, 2]);
    const expected = parts.map((group) => new BatchNorm2d({ features: 2, device, dtype }).forward(group));
    assertClose(y, torch.cat(expected), { atol: 1e-12 });
    // With momentum 1 the weighted mean of the groups' means is the mean of the batch.
    assertClose(split.runningMean!, x.mean([0, 2, 3]), { atol: 1e-12 });
  });

  it('refuses unequal groups when told to', () => {
    const split = new SplitBatchNorm2d({ features: 2, splits: 3, unequalGroups: 'error', device, dtype });
    assert.throws(() => split.forward(images(8)), /a batch of 8 does not split into 3 equal groups/);
    assert.deepEqual(numbers(split.numBatchesTracked!), [0]);
    assert.deepEqual(split.forward(images(6)).shape, [6, 2, 3, 3]);
  });

  it('refuses groups of one value a channel', () => {
    const split = new SplitBatchNorm1d({ features: 2, splits: 4, device });
    assert.throws(
      () => split.forward(torch.zeros([7, 2], { device })),
      /SplitBatchNorm1d: training needs more than one value a channel, but the smallest of 4 groups of 7 samples has shape \[1, 2\]/,
    );
  });

  it('is plain batch normalisation in evaluation and with one group, in state too', () => {
    const [split, plain] = [
      new SplitBatchNorm2d({ features: 2, splits: 1, device, dtype }),
      new BatchNorm2d({ features: 2, device, dtype }),
    ];
    const x = images(4);
    assertClose(split.forward(x), plain.forward(x), { atol: 0 });
    assert.deepEqual([...split.stateDict().keys()], [...plain.stateDict().keys()]);
    const many = new SplitBatchNorm2d({ features: 2, splits: 4, device, dtype });
    many.loadStateDict(plain.stateDict());
    assertClose(many.eval().forward(x), plain.eval().forward(x), { atol: 0 });
  });

  it('gives the same in channels-last memory, and keeps it', () => {
    const [a, b] = [0, 1].map(() => new SplitBatchNorm2d({ features: 2, splits: 2, device, dtype }));
    const x = images(6);
    const y = a!.forward(x.contiguous({ memoryFormat: 'channels_last' }));
    assertClose(y, b!.forward(x), { atol: 1e-12 });
    assert.ok(y.isContiguous('channels_last'));
  });

  it('passes the finite-difference check', () => {
    const split = new SplitBatchNorm2d({ features: 2, splits: 2, device, dtype });
    const x = torch.randn([5, 2, 2, 1], { dtype, device }).requiresGrad_();
    gradcheck((input) => split.forward(input), [x, split.weight!, split.bias!]);
  });

  it('works without running statistics', () => {
    const split = new SplitBatchNorm1d({ features: 2, splits: 2, trackRunningStats: false, affine: false, device });
    const y = split.eval().forward(torch.tensor([[0, 1], [2, 1], [10, 1], [14, 3]], { device })); // prettier-ignore
    assertClose(y, torch.tensor([[-1, 0], [1, 0], [-1, -1], [1, 1]]), { atol: 1e-4 }); // prettier-ignore
  });

  it('takes every s-th sample where groups are interleaved, in one call', () => {
    const split = new SplitBatchNorm2d({ features: 2, splits: 3, grouping: 'interleaved', device, dtype });
    const x = images(6);
    const y = split.forward(x);
    const layers = [0, 1, 2].map((group) => {
      const layer = new BatchNorm2d({ features: 2, device, dtype });
      const rows = torch.tensor([group, group + 3], { device, dtype: 'int64' });
      assertClose(y.indexSelect(0, rows), layer.forward(x.indexSelect(0, rows)), { atol: 1e-12 });
      return layer;
    });
    assertClose(split.runningVar!, torch.stack(layers.map((layer) => layer.runningVar!)).mean([0]), { atol: 1e-12 });
    assert.throws(() => split.forward(images(7)), /a batch of 7 does not split into 3 equal groups.*grouping/);
  });

  it('takes volumes, in either layout', () => {
    for (const memoryFormat of ['contiguous_format', 'channels_last_3d'] as const) {
      const split = new SplitBatchNorm3d({ features: 2, splits: 2, device, dtype });
      const x = torch.randn([4, 2, 2, 3, 2], { dtype, device });
      const y = split.forward(x.contiguous({ memoryFormat }));
      const expected = x.split(2).map((group) => new BatchNorm3d({ features: 2, device, dtype }).forward(group));
      assertClose(y, torch.cat(expected), { atol: 1e-12 });
      assert.ok(y.isContiguous(memoryFormat));
    }
    assert.throws(
      () => new SplitBatchNorm3d({ features: 2, splits: 2, device }).forward(images(4).to('float32')),
      /\[N, C, D, H, W\]/,
    );
  });
});
