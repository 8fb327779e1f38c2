import assert from 'node:assert/strict';
import { patchNce, PatchSampler } from '../../../src/contrast/objectives/patch-nce';
import { scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import {
  assertExecutionsAgree,
  assertFinite,
  assertGradients,
  assertRefuses,
  assertValue,
  cosine,
  learning,
  mean,
  random,
  rowsOf,
  sumExp,
} from './plain';

const layerLoss = (queries: Tensor, keys: Tensor, temperature: number, wholeBatch = false): number => {
  const images = wholeBatch ? [0] : Array.from({ length: queries.sizeOf(0) }, (_, b) => b);
  const losses = images.flatMap((b) => {
    const [q, k] = [queries, keys].map((x) => rowsOf(wholeBatch ? x.flatten(0, 1) : x.at(b)));
    return q!.map((row, s) => {
      const scores = k!.map((key) => cosine(row, key) / temperature);
      return Math.log(sumExp(scores)) - scores[s]!;
    });
  });
  return mean(losses);
};

describe('patchNce', () => {
  it('is the mean over layers of the loss among patches of one image', () => {
    scope(() => {
      for (const patches of [1, 2, 3, 5, 17]) {
        const outputs = [random([2, patches, 4]), random([2, patches + 1, 3])];
        const inputs = outputs.map((x) => random([...x.shape]));
        const temperature = 0.3;
        const each = (wholeBatch: boolean): number =>
          mean(outputs.map((x, i) => layerLoss(x, inputs[i]!, temperature, wholeBatch)));
        assertValue(patchNce(outputs, inputs, { temperature }), each(false));
        assertValue(patchNce(outputs, inputs, { temperature, negatives: 'batch' }), each(true));
      }
      assertValue(patchNce([random([3, 1, 4])], [random([3, 1, 4])]), 0);
    });
  });

  it("is the authors' formula, with its exp(-10/τ) in the positive's place", () => {
    scope(() => {
      const [q, k] = [random([2, 6, 4]), random([2, 6, 4])].map((x) => x.div(x.square().sum([2], true).sqrt()));
      const own = q!.mul(k!).sum([2], true);
      const others = q!.matmul(k!.transpose(1, 2)).maskedFill(torch.eye(6, { dtype: 'bool' }), -10);
      const scores = torch.cat([own, others], 2).div(0.07).flatten(0, 1);
      const expected = torch.crossEntropyLoss(scores, torch.zeros([12], { dtype: 'int64' }));
      assertClose(patchNce([q!], [k!]), expected, { atol: 1e-10 });
    });
  });

  it('takes the identity term, a weight, and gives inputs no gradient unless asked', () => {
    scope(() => {
      const make = (): Tensor[] => [random([1, 4, 3])];
      const [a, b, c, d] = [make(), make(), make(), make()];
      const expected = (layerLoss(a![0]!, b![0]!, 0.07) + layerLoss(c![0]!, d![0]!, 0.07)) * 5;
      assertValue(patchNce(a!, b!, { identity: { outputs: c!, inputs: d! }, weight: 10 }), expected);
      const inputs = learning([1, 4, 3]);
      patchNce([learning([1, 4, 3])], [inputs]).backward();
      assert.equal(inputs.grad, null);
      patchNce([learning([1, 4, 3])], [inputs], { detachInputs: false }).backward();
      assert.notEqual(inputs.grad, null);
    });
  });

  it('agrees between dense and tiled, and has right gradients', () => {
    scope(() => {
      const [a, b] = [learning([1, 140, 5]), learning([1, 140, 5])];
      assertExecutionsAgree((execution) => patchNce([a], [b], { execution, detachInputs: false }), [a, b]);
      assertGradients(
        (execution, x, y) => patchNce([x!], [y!], { execution, detachInputs: false, temperature: 0.5 }),
        [learning([2, 3, 2]), learning([2, 3, 2])],
      );
      assertFinite(
        (temperature, x, y) => patchNce([x!], [y!], { temperature }),
        [
          [2, 7, 4],
          [2, 7, 4],
        ],
      );
    });
  });

  it('refuses layers that do not fit', () => {
    assertRefuses(() => patchNce([], []), /outputs and inputs must be as many layers, at least one; found 0 and 0/);
    assertRefuses(() => patchNce([random([2, 3, 4])], [random([2, 3, 5])]), /layer 0: .* must both be \[B, S, D\]/);
    assertRefuses(() => patchNce([random([1, 2, 3])], [random([1, 2, 3])], { temperature: 0 }), /temperature must be/);
  });
});

describe('PatchSampler', () => {
  it('takes the same positions of both images through one head a layer', () => {
    scope(() => {
      const sampler = new PatchSampler({ channels: [3, 5], dimension: 8, patches: 6 });
      const maps = [random([2, 3, 4, 4], 'float32'), random([2, 5, 2, 2], 'float32')];
      const { features, positions } = sampler.forward(maps);
      assert.deepEqual(
        features.map((x) => [...x.shape]),
        [
          [2, 6, 8],
          [2, 4, 8],
        ],
      );
      const [hidden, , last] = [...([...sampler.heads][0] as unknown as Iterable<{ forward(x: Tensor): Tensor }>)];
      const vectors = maps[0]!.flatten(2).transpose(1, 2).indexSelect(1, positions[0]!);
      const raw = last!.forward(hidden!.forward(vectors).relu());
      assertClose(features[0]!, raw.div(raw.square().sum([2], true).sqrt().clampMin(1e-12)));
      assertClose(sampler.forward(maps, positions).features[1]!, features[1]!);
      assert.equal([...sampler.stateDict().keys()][0], 'heads.0.0.weight');
      assertRefuses(() => sampler.forward([maps[0]!]), /there are 2 layers, found 1 feature maps/);
    });
  });
});
