import * as assert from 'node:assert/strict';
import { alignment, retrieve, similarityHistograms, uniformity } from '../../src/evaluate/similarity';
import { memory, torch } from '../../src/torch';
import { InvalidArgumentError } from '../../src/torch/errors';
import { cosine, cyclicLabels, device, randomFeatures, rowsOf } from './support';

const unit = (row: number[]) => row.map((x) => x / Math.hypot(...row));
const distance = (a: number[], b: number[]) => Math.hypot(...unit(a).map((x, i) => x - unit(b)[i]));
const close = (actual: number, expected: number, tolerance = 1e-5) =>
  assert.ok(Math.abs(actual - expected) <= tolerance, `${actual} instead of ${expected}`);

describe('alignment', () => {
  it('is the mean distance of pairs to a power', () => {
    const [first, second] = [randomFeatures(9, 4, 1), randomFeatures(9, 4, 2)];
    for (const alpha of [1, 2, 3]) {
      const distances = rowsOf(first).map((row, i) => distance(row, rowsOf(second)[i]) ** alpha);
      close(alignment(first, second, alpha), distances.reduce((sum, d) => sum + d, 0) / 9);
    }
    close(alignment(first, first.mul(3)), 0);
    close(alignment(first, first.neg()), 4);
  });

  it('needs pairs', () => {
    assert.throws(() => alignment(randomFeatures(3, 4), randomFeatures(2, 4)), InvalidArgumentError);
    assert.throws(() => alignment(randomFeatures(3, 4), randomFeatures(3, 5)), InvalidArgumentError);
  });
});

describe('uniformity', () => {
  it('is the logarithm of the mean kernel over all pairs, over several tiles', () => {
    for (const [count, t] of [
      [2, 2],
      [40, 2],
      [40, 0.5],
      [1100, 2],
    ]) {
      const features = randomFeatures(count, 3);
      const rows = rowsOf(features).map(unit);
      let sum = 0;
      for (let i = 0; i < count; i++) {
        for (let j = 0; j < count; j++) {
          if (i !== j) sum += Math.exp(-t * rows[i].reduce((s, x, d) => s + (x - rows[j][d]) ** 2, 0));
        }
      }
      close(uniformity(features, t), Math.log(sum / (count * (count - 1))));
    }
  });

  it('is 0 for a single point', () => {
    close(uniformity(torch.ones([5, 3], { device })), 0);
  });

  it('needs two rows', () => {
    assert.throws(() => uniformity(randomFeatures(1, 4)), /two rows/);
  });
});

describe('similarityHistograms', () => {
  it('counts positive and negative pairs, over several tiles', () => {
    const count = 700;
    const first = randomFeatures(count, 3, 1);
    const second = first.add(randomFeatures(count, 3, 2).mul(0.5));
    const bins = 10;
    const { edges, positives, negatives, meanPositive, meanNegative } = similarityHistograms(first, second, bins);
    const expected = { positives: new Array<number>(bins).fill(0), negatives: new Array<number>(bins).fill(0) };
    let [positiveSum, negativeSum] = [0, 0];
    const [a, b] = [rowsOf(first), rowsOf(second)];
    for (let i = 0; i < count; i++) {
      for (let j = 0; j < count; j++) {
        const similarity = cosine(a[i], b[j]);
        const bin = Math.min(bins - 1, Math.floor(((similarity + 1) / 2) * bins));
        expected[i === j ? 'positives' : 'negatives'][bin]++;
        if (i === j) positiveSum += similarity;
        else negativeSum += similarity;
      }
    }
    assert.deepEqual(
      edges.map((edge) => edge.toFixed(9)),
      Array.from({ length: 11 }, (_, i) => (i / 5 - 1).toFixed(9)),
    );
    assert.deepEqual(positives, expected.positives);
    // In float32 a few of half a million fall on the other side of an edge.
    negatives.forEach((number, bin) => close(number, expected.negatives[bin], 5));
    assert.equal(
      negatives.reduce((sum, number) => sum + number, 0),
      count * (count - 1),
    );
    close(meanPositive, positiveSum / count);
    close(meanNegative, negativeSum / (count * (count - 1)));
  });

  it('loses no pair at the ends', () => {
    const features = torch.tensor(
      [
        [0.1, 0.7],
        [0.1, 0.7],
        [-0.1, -0.7],
      ],
      { device },
    );
    const { positives, negatives } = similarityHistograms(features, features, 4);
    assert.deepEqual(positives, [0, 0, 0, 3]);
    assert.deepEqual(negatives, [4, 0, 0, 2]);
  });

  it('frees what it makes, and rejects what does not fit', () => {
    const features = randomFeatures(5, 3);
    const before = memory().liveTensors;
    similarityHistograms(features, features);
    uniformity(features);
    alignment(features, features);
    assert.equal(memory().liveTensors, before);
    for (const bins of [0, 2.5]) assert.throws(() => similarityHistograms(features, features, bins), /bins/);
    assert.throws(() => similarityHistograms(randomFeatures(1, 3), randomFeatures(1, 3)), /two rows/);
    assert.throws(() => similarityHistograms(features, randomFeatures(6, 3)), InvalidArgumentError);
  });
});

describe('retrieve', () => {
  const queryFeatures = randomFeatures(6, 4, 1);
  const candidateFeatures = randomFeatures(30, 4, 2);
  const data = {
    queryFeatures,
    queryLabels: cyclicLabels(6, 3),
    candidateFeatures,
    candidateLabels: cyclicLabels(30, 3),
  };

  it('lists the nearest with labels and similarities', () => {
    const found = retrieve({ ...data, rows: [4, 1], k: 5 });
    assert.deepEqual(
      found.map(({ index, label }) => [index, label]),
      [
        [4, 1],
        [1, 1],
      ],
    );
    for (const { index, neighbors } of found) {
      const expected = rowsOf(candidateFeatures)
        .map((row, i) => ({ index: i, similarity: cosine(rowsOf(queryFeatures)[index], row) }))
        .sort((x, y) => y.similarity - x.similarity)
        .slice(0, 5);
      neighbors.forEach((neighbor, rank) => {
        assert.equal(neighbor.index, expected[rank].index);
        assert.equal(neighbor.label, neighbor.index % 3);
        close(neighbor.similarity, expected[rank].similarity);
      });
      assert.equal(neighbors.length, 5);
    }
  });

  it('takes no queries, and rejects rows that are not there', () => {
    assert.deepEqual(retrieve({ ...data, rows: [] }), []);
    for (const row of [6, -1, 0.5]) assert.throws(() => retrieve({ ...data, rows: [row] }), InvalidArgumentError);
    assert.throws(() => retrieve({ ...data, rows: [0], k: 31 }), InvalidArgumentError);
  });
});
