import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { Identity, type Module } from '../../src/nn';
import {
  BatchChannelNorm2d,
  BatchNorm1d,
  BatchNorm2d,
  FilterResponseNorm,
  GhostBatchNorm2d,
  GroupNorm,
  InstanceNorm2d,
  IterativeWhitening,
  LayerNorm,
  normFactory1d,
  normFactory2d,
  normNames1d,
  normNames2d,
  PowerNorm,
  RMSNorm,
  SplitBatchNorm1d,
  type Norm1d,
  type Norm2d,
} from '../../src/norm';
import { BasicBlock, ProjectionHead, ResidualEncoder, ResNet18 } from '../../src/models';
import { WeightStandardizedConv2d } from '../../src/norm/weight-standardized-conv2d';

/** What norms need to be told that have no default for it. */
const needed: Record<string, object> = {
  split: { splits: 2 },
  ghost: { ghostSize: 3 },
  'cross-mini-batch': { microBatches: 2 },
};

/** Of all parameters but those of domains that are not in use. */
function assertGradients(model: Module): void {
  for (const [path, { grad }] of model.namedParameters()) {
    assert.ok(path.includes('domains.1') || grad?.isfinite().all().itemSync(), path);
  }
}

describe('norms by name', () => {
  for (const name of normNames2d) {
    it(`train an encoder of images: ${name}`, () => {
      const norm = (name in needed ? { name, ...needed[name] } : name) as Norm2d;
      const encoder = new ResidualEncoder({ inChannels: 1, widths: [8, 16], norm });
      const made = [encoder.bn1, (encoder.stages.at(0) as unknown as Iterable<BasicBlock>)[Symbol.iterator]().next()];
      assert.equal((made[1] as { value: BasicBlock }).value.bn1.constructor, encoder.bn1.constructor);
      assert.equal(encoder.bn1 instanceof Identity, name === 'none');
      encoder
        .forward(torch.randn([6, 1, 8, 8]))
        .square()
        .sum()
        .backward();
      assertGradients(encoder);
    });
  }

  for (const name of normNames1d) {
    it(`train a projection head: ${name}`, () => {
      const norm = (name in needed ? { name, ...needed[name] } : name) as Norm1d;
      const head = new ProjectionHead({ inputSize: 8, outputSize: 8, norm, outputNorm: norm });
      assert.equal(head.at(1) instanceof Identity, name === 'none');
      assert.equal(head.at(4).constructor, head.at(1).constructor);
      head
        .forward(torch.randn([12, 8]))
        .square()
        .sum()
        .backward();
      assertGradients(head);
    });
  }

  it('are the layers of that name, with options passed on', () => {
    const ghost = normFactory2d({ name: 'ghost', ghostSize: 7, momentum: 0.3 })(4);
    assert.ok(ghost instanceof GhostBatchNorm2d);
    assert.deepEqual([ghost.features, ghost.ghostSize, ghost.momentum], [4, 7, 0.3]);
    const split = normFactory1d({ name: 'split', splits: 3, grouping: 'interleaved' })(4);
    assert.ok(split instanceof SplitBatchNorm1d);
    assert.deepEqual([split.splits, split.grouping], [3, 'interleaved']);
    assert.ok(normFactory2d('batch')(2) instanceof BatchNorm2d);
    assert.ok(normFactory1d('batch')(2) instanceof BatchNorm1d);
    assert.ok(normFactory2d('iterative-whitening')(2) instanceof IterativeWhitening);
    assert.ok(normFactory2d({ name: 'power', warmUp: 3 })(2) instanceof PowerNorm);
    const layer = normFactory1d('layer')(5);
    assert.ok(layer instanceof LayerNorm && layer.weight!.numel() === 5);
    assert.ok(normFactory1d('rms')(5) instanceof RMSNorm);
  });

  it('have defaults that suit networks', () => {
    const groups = (features: number) => (normFactory2d('group')(features) as GroupNorm).groups;
    assert.deepEqual([8, 16, 64, 128, 512, 30, 7, 2].map(groups), [2, 4, 16, 32, 32, 2, 1, 1]);
    assert.equal((normFactory2d({ name: 'group', groups: 8 })(8) as GroupNorm).groups, 8);
    assert.equal((normFactory2d('batch-channel')(16) as BatchChannelNorm2d).groups, 4);
    assert.equal((normFactory2d('layer')(16) as GroupNorm).groups, 1);
    assert.equal((normFactory2d('filter-response')(4) as FilterResponseNorm).threshold, null);
    assert.notEqual(
      (normFactory2d({ name: 'filter-response', threshold: true })(4) as FilterResponseNorm).threshold,
      null,
    );
    assert.notEqual((normFactory2d('instance')(4) as InstanceNorm2d).weight, null);
  });

  it('may be functions', () => {
    const made: number[] = [];
    const norm = (features: number) => {
      made.push(features);
      return new Identity();
    };
    new ProjectionHead({ inputSize: 2, hiddenSize: 3, norm });
    new ResidualEncoder({ inChannels: 1, widths: [4], norm });
    assert.deepEqual(made, [3, 4, 4, 4]);
  });

  it('come with standardised weights', () => {
    const kinds = (model: ResidualEncoder | ResNet18) =>
      model.modules().filter((module) => module instanceof WeightStandardizedConv2d).length;
    const options = { norm: 'batch-channel', weightStandardized: true } as const;
    assert.equal(kinds(new ResidualEncoder({ ...options, widths: [4, 8] })), 1 + 2 + 3);
    assert.equal(kinds(new ResNet18({ ...options, smallImage: true })), 20);
    assert.equal(kinds(new ResidualEncoder({ norm: 'batch-channel', widths: [4, 8] })), 0);
  });

  it('refuse other names, listing those there are', () => {
    // @ts-expect-error There is no such norm.
    const unknown = () => new ResidualEncoder({ norm: 'bacth' });
    assert.throws(
      unknown,
      /no norm for images is called 'bacth'; known: batch, .*, none; or give a function that makes one/,
    );
    // @ts-expect-error It is for vectors only.
    assert.throws(() => normFactory2d('rms'), /no norm for images is called 'rms'/);
    // @ts-expect-error It is for images only.
    assert.throws(() => normFactory1d({ name: 'instance' }), /no norm for vectors is called 'instance'/);
    // @ts-expect-error It has to know the number of groups.
    assert.throws(() => normFactory2d('split')(4), /SplitBatchNorm2d: splits/);
    // @ts-expect-error It has no such option.
    normFactory2d({ name: 'batch', splits: 4 });
  });
});
