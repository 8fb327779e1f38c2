import assert from 'node:assert/strict';
import { manualSeed, torch, type Tensor } from '../../src/torch';
import { BatchNorm1d, SplitBatchNorm1d, shuffledBatch } from '../../src/norm';
import { GroupNorm } from '../../src/norm/group-norm';
import { detectLeak, type LeakReport } from '../../src/norm/leak-detector';
import { MoCo, ProjectionHead, ResidualEncoder, type MoCoOptions } from '../../src/models';
import { Generator } from '../../src/torch';
import { Linear, Sequential, type Module } from '../../src/nn';
import { assertClose } from '../support/close';

const samples = 24;

/** Two views a batch, which differ from each other by noise, and batches by content. */
function viewsOf(shape: number[], count = 8): (readonly [Tensor, Tensor])[] {
  return Array.from({ length: count }, () => {
    const content = torch.randn([samples, ...shape]).add(torch.randn([samples, ...shape.map(() => 1)]));
    const view = () => content.add(torch.randn([samples, ...shape]).mul(0.1));
    return [view(), view()] as const;
  });
}

function moco(options: Partial<MoCoOptions>, withoutBatch = false): MoCo {
  return new MoCo({
    encoder: ({ norm2d }) => {
      const norm = withoutBatch ? (features: number) => new GroupNorm({ features, groups: 2 }) : norm2d;
      return new ResidualEncoder({ inChannels: 1, widths: [6], norm });
    },
    head: (inputSize) => new ProjectionHead({ inputSize, outputSize: 8, layers: 1 }),
    queueSize: 48,
    ...options,
  });
}

describe('detectLeak', () => {
  beforeEach(() => manualSeed(5));

  const judge = (options: Partial<MoCoOptions>, withoutBatch = false): LeakReport =>
    detectLeak(moco(options, withoutBatch), viewsOf([1, 4, 4]));

  it('finds that MoCo leaks with plain batch norm: everyone is company of everyone', () => {
    const report = judge({ batchNorm: 'none' });
    assert.equal(report.verdict, 'leaks');
    assert.ok(report.identified > 0.8, report.summary);
    assert.deepEqual([report.queryReach, report.keyReach, report.companyOverlap], [1, 1, 1]);
    assert.match(report.summary, /give the positive away: with equal content, \d+ % of 32 queries/);
  });

  it('finds that it leaks with groups that are not shuffled', () => {
    const report = judge({ batchNorm: 'split', splits: 4 });
    assert.equal(report.verdict, 'leaks');
    // A group of 6 has 5 others of 23.
    assert.deepEqual(
      [report.queryReach, report.keyReach].map((reach) => Math.round(reach * 23)),
      [5, 5],
    );
    assert.equal(report.companyOverlap, 1);
  });

  it('finds shuffled groups shielded', () => {
    const report = judge({ batchNorm: 'shuffle-split', splits: 4 });
    assert.equal(report.verdict, 'shielded');
    assert.ok(report.identified < 0.4, report.summary);
    assert.ok(report.companyOverlap < 0.6, report.summary);
    assert.ok(report.queryReach > 0 && report.keyReach > 0);
  });

  it('finds that nothing can leak where keys, or both, do not depend on the batch', () => {
    const eman = judge({ batchNorm: 'eman' });
    assert.deepEqual([eman.verdict, eman.queryReach, eman.keyReach], ['independent', 1, 0]);
    assert.match(eman.summary, /keys do not depend/);
    assert.equal(judge({ batchNorm: 'none' }, true).verdict, 'independent');
    const evaluated = moco({ batchNorm: 'none' }).eval();
    const report = detectLeak(evaluated, viewsOf([1, 4, 4]));
    assert.deepEqual([report.verdict, report.queryReach, report.keyReach], ['independent', 0, 0]);
  });

  it('leaves the trainer as it was', () => {
    const trainer = moco({ batchNorm: 'shuffle-split', splits: 4 });
    const before = trainer.stateDict();
    const copies = new Map([...before.tensors].map(([name, tensor]) => [name, tensor.clone()]));
    const { objective } = trainer;
    const grads = trainer.parameters().map((parameter) => parameter.grad);
    detectLeak(trainer, viewsOf([1, 4, 4], 4));
    assert.equal(trainer.objective, objective);
    const after = trainer.stateDict();
    assert.deepEqual(after.values, before.values);
    for (const [name, tensor] of after.tensors) assertClose(tensor, copies.get(name)!, { atol: 0, rtol: 0 }, name);
    assert.deepEqual(trainer.parameters().map((parameter) => parameter.grad), grads); // prettier-ignore
  });

  it('takes any pair of encoders as a function; shuffling alone is no shield', () => {
    const network = (norm: Module): Sequential =>
      new Sequential(
        new Linear({ inFeatures: 6, outFeatures: 8 }),
        norm,
        new Linear({ inFeatures: 8, outFeatures: 6 }),
      );
    const plain = network(new BatchNorm1d({ features: 8 }));
    const split = network(new SplitBatchNorm1d({ features: 8, splits: 6 }));
    const verdict = (encoder: Sequential, shuffle: boolean): string =>
      detectLeak(
        (queries, keys) => {
          const generator = new Generator({ seed: 9 });
          const encode = (x: Tensor): Tensor => encoder.forward(x);
          return [encode(queries), shuffle ? shuffledBatch(keys, encode, { generator }) : encode(keys)];
        },
        viewsOf([6]),
      ).verdict;
    assert.equal(verdict(plain, true), 'leaks');
    assert.equal(verdict(split, false), 'leaks');
    assert.equal(verdict(split, true), 'shielded');
  });

  it('refuses what it cannot judge', () => {
    const [first, ...others] = viewsOf([6], 4);
    const same = (a: Tensor, b: Tensor) => [a, b] as const;
    assert.throws(() => detectLeak(same, others), /needs at least 4 batches of at least 2 samples, found 3 of 24/);
    const short = [first![0].narrow(0, 0, 4), first![1]] as const;
    assert.throws(() => detectLeak(same, [short, first!, ...others]), /all views must have one shape/);
    const random = (a: Tensor, b: Tensor) => [a.add(torch.rand([1])), b] as const;
    assert.throws(() => detectLeak(random, [first!, ...others]), /gives other embeddings for the same input/);
    assert.throws(
      () => detectLeak((a) => [a.sum([1]), a], [first!, ...others]),
      /expected an embedding a sample, \[24, D\]/,
    );
    assert.equal(detectLeak(same, [first!, ...others], { probes: 1 }).trials, 4);
  });
});
