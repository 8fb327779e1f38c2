import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { Sequential, type Module } from '../../src/nn';
import { BatchNorm1d, normFactory1d, normNames1d, SplitBatchNorm1d, UnMixTns, type Norm1d } from '../../src/norm';
import { batchDependentNorms, isPlainBatchNorm } from '../../src/norm/uses-batch';

const make = (name: (typeof normNames1d)[number]): Module => {
  const needed = { split: { splits: 2 }, ghost: { ghostSize: 4 }, 'cross-mini-batch': { microBatches: 2 } };
  return normFactory1d((name in needed ? { name, ...needed[name as 'split'] } : name) as Norm1d)(4);
};

/** Whether the first sample's output changes with the others of its batch. */
function changesWithOthers(norm: Module): boolean {
  const x = torch.randn([8, 4]);
  const other = torch.cat([x.narrow(0, 0, 1), torch.randn([7, 4]).mul(3).add(2)]);
  const state = norm.stateDict();
  const before = new Map([...state].map(([path, tensor]) => [path, tensor.clone()]));
  const first = norm.forward(x).narrow(0, 0, 1);
  norm.loadStateDict(before);
  return !torch.allclose(first, norm.forward(other).narrow(0, 0, 1));
}

describe('batchDependentNorms', () => {
  for (const name of normNames1d) {
    it(`knows whether samples depend on each other: ${name}`, () => {
      for (const training of [true, false]) {
        const norm = make(name).train(training);
        assert.equal(batchDependentNorms(norm).length > 0, changesWithOthers(norm), String(training));
      }
    });
  }

  it('finds norms that have no running statistics, or work at test time', () => {
    const bare = new BatchNorm1d({ features: 4, trackRunningStats: false }).eval();
    assert.deepEqual(batchDependentNorms(new Sequential(bare)), [bare]);
    assert.equal(batchDependentNorms(new UnMixTns(new BatchNorm1d({ features: 4 }))).length, 1);
  });

  it('tells plain batch normalisation from its relatives', () => {
    const plain = normNames1d.filter((name) => isPlainBatchNorm(make(name)));
    assert.deepEqual(plain, ['batch', 'sync']);
    assert.ok(isPlainBatchNorm(new SplitBatchNorm1d({ features: 4, splits: 1 })));
  });
});
