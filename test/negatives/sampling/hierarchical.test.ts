import assert from 'node:assert/strict';
import { HierarchicalSampler } from '../../../src/negatives/sampling/hierarchical';
import { epochOf, keepsTheContract } from './contract';

// Row r has class r mod 8 (class 7 has one row less), class c has super-class c mod 3.
const labels = Array.from({ length: 31 }, (_, row) => row % 8);
const superLabels = labels.map((label) => label % 3);
const options = { labels, superLabels, batchSize: 12, samplesPerClass: 3 };

describe('HierarchicalSampler', () => {
  keepsTheContract((shared) => new HierarchicalSampler({ ...options, ...shared }));

  it('takes every pair of super-classes as often as it should, classes and rows evenly', () => {
    const sampler = new HierarchicalSampler({ ...options, batchesPerSuperTuple: 5 });
    const batches = epochOf(sampler, 0);
    assert.equal(batches.length, 15);
    const pairs = new Map<string, number>();
    for (const batch of batches) {
      const classes = [...new Set(batch.map((row) => labels[row]!))];
      assert.equal(classes.length, 4);
      for (const label of classes) assert.equal(new Set(batch.filter((row) => labels[row] === label)).size, 3);
      const supers = classes.map((label) => label % 3).sort();
      assert.ok(supers[0] === supers[1] && supers[1] !== supers[2] && supers[2] === supers[3]);
      const pair = `${supers[0]}${supers[2]}`;
      pairs.set(pair, (pairs.get(pair) ?? 0) + 1);
    }
    assert.deepEqual([...pairs].sort(), [
      ['01', 5],
      ['02', 5],
      ['12', 5],
    ]);
    for (const superClass of [0, 1, 2]) {
      const times = [0, 1, 2, 3, 4, 5, 6, 7]
        .filter((label) => label % 3 === superClass)
        .map((label) => batches.flat().filter((row) => labels[row] === label).length / 3);
      assert.ok(Math.max(...times) - Math.min(...times) <= 1);
    }
  });

  it('deals super-classes when told how many batches', () => {
    const sampler = new HierarchicalSampler({ ...options, batches: 6 });
    const supers = epochOf(sampler, 0).map((batch) => [...new Set(batch.map((row) => superLabels[row]!))]);
    assert.equal(supers.length, 6);
    for (const superClass of [0, 1, 2]) assert.equal(supers.flat().filter((one) => one === superClass).length, 4);
  });

  it('refuses what can make no batch', () => {
    const make = (change: object) => () => new HierarchicalSampler({ ...options, ...change });
    assert.throws(make({ batchSize: 10 }), /multiple of superClassesPerBatch · samplesPerClass = 6, found 10/);
    assert.throws(make({ superClassesPerBatch: 4 }), /at most the 3 super-classes/);
    assert.throws(make({ batchSize: 18 }), /takes 3 classes of a super-class, super-label 2 has 2/);
    assert.throws(make({ superLabels: labels.map((_, row) => row) }), /label 0 has several super-labels/);
    assert.throws(make({ superLabels: [1] }), /superLabels must be 31 integers, found 1/);
    const many = Array.from({ length: 100 }, (_, row) => row);
    const tooMany = { labels: many, superLabels: many, batchSize: 5, samplesPerClass: 1, superClassesPerBatch: 5 };
    assert.throws(make(tooMany), /too many for an epoch: set batches/);
    assert.equal(new HierarchicalSampler({ ...tooMany, batches: 2 }).batchesPerEpoch, 2);
  });
});
