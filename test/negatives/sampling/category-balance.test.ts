import assert from 'node:assert/strict';
import { CategoryBalanceSampler } from '../../../src/negatives/sampling/category-balance';
import { epochOf, keepsTheContract } from './contract';

// Labels 0-8; category 0 has labels 0-5, category 1 has 6-7, category 2 has 8-9.
const labels = Array.from({ length: 40 }, (_, row) => row % 10);
const categoryOf = (label: number) => (label < 6 ? 0 : label < 8 ? 1 : 2);
const categories = labels.map(categoryOf);
const options = { labels, categories, categoriesPerBatch: 2, labelsPerCategory: 2, samplesPerLabel: 3 };

describe('CategoryBalanceSampler', () => {
  keepsTheContract((shared) => new CategoryBalanceSampler({ ...options, ...shared }));

  it('gives categories, labels and rows as many as told, all different', () => {
    const batches = epochOf(new CategoryBalanceSampler({ ...options, batches: 30 }), 0);
    assert.equal(batches.length, 30);
    for (const batch of batches) {
      assert.equal(new Set(batch).size, 12);
      const own = [...new Set(batch.map((row) => labels[row]!))];
      assert.equal(own.length, 4);
      assert.equal(new Set(own.map(categoryOf)).size, 2);
      for (const category of new Set(own.map(categoryOf))) {
        assert.equal(own.filter((label) => categoryOf(label) === category).length, 2);
      }
    }
    assert.equal(new CategoryBalanceSampler(options).batchesPerEpoch, 5);
  });

  it('weights categories by their labels', () => {
    const share = (weightCategories: boolean) => {
      const sampler = new CategoryBalanceSampler({
        ...options,
        categoriesPerBatch: 1,
        batches: 3000,
        weightCategories,
      });
      return epochOf(sampler, 0).filter((batch) => categories[batch[0]!] === 0).length / 3000;
    };
    assert.ok(Math.abs(share(true) - 0.6) < 0.03);
    assert.ok(Math.abs(share(false) - 1 / 3) < 0.03);
  });

  it('repeats rows, and labels if allowed, where there are too few', () => {
    const sampler = new CategoryBalanceSampler({
      ...options,
      labelsPerCategory: 3,
      samplesPerLabel: 5,
      resampleLabels: true,
    });
    for (const batch of epochOf(sampler, 0)) assert.equal(batch.length, 30);
    assert.throws(
      () => new CategoryBalanceSampler({ ...options, labelsPerCategory: 3 }),
      /category 1 has 2 labels, fewer than labelsPerCategory 3; resampleLabels/,
    );
  });

  it('refuses what does not fit', () => {
    assert.throws(() => new CategoryBalanceSampler({ ...options, categoriesPerBatch: 4 }), /at most the 3 categories/);
    const mixed = labels.map((_, row) => row);
    assert.throws(
      () => new CategoryBalanceSampler({ ...options, categories: mixed }),
      /label 0 has several categories/,
    );
  });
});
