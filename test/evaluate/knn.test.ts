import * as assert from 'node:assert/strict';
import { knnClassify, nearestNeighbors } from '../../src/evaluate/knn';
import { memory, torch, type Tensor } from '../../src/torch';
import { InvalidArgumentError } from '../../src/torch/errors';
import { clusters, cosine, cyclicLabels, device, numbers, randomFeatures, rowsOf } from './support';

const rejects = (run: () => unknown, part: string) =>
  assert.throws(run, (error) => {
    assert.ok(error instanceof InvalidArgumentError && error.message.includes(part), String(error));
    return true;
  });

describe('nearestNeighbors', () => {
  const queries = randomFeatures(23, 5, 1);
  const candidates = randomFeatures(57, 5, 2);
  /** All similarities of each query, the highest first. */
  const ranked = (a: Tensor, b: Tensor, excludeSelf = false) =>
    rowsOf(a).map((query, row) =>
      rowsOf(b)
        .map((candidate, index) => ({ index, similarity: cosine(query, candidate) }))
        .filter(({ index }) => !excludeSelf || index !== row)
        .sort((x, y) => y.similarity - x.similarity),
    );
  const check = (found: { similarities: Tensor; indices: Tensor }, expected: ReturnType<typeof ranked>, k: number) => {
    assert.deepEqual(found.indices.shape, [expected.length, k]);
    const indices = numbers(found.indices);
    const similarities = numbers(found.similarities);
    expected.forEach((row, i) =>
      row.slice(0, k).forEach(({ index, similarity }, rank) => {
        assert.equal(indices[i * k + rank], index);
        assert.ok(Math.abs(similarities[i * k + rank] - similarity) < 1e-6);
      }),
    );
  };

  for (const [queryTile, candidateTile] of [
    [256, 65536],
    [23, 57],
    [5, 10],
    [7, 3],
    [1, 1],
  ]) {
    it(`finds what a loop over all pairs finds, in tiles of ${queryTile} × ${candidateTile}`, () => {
      for (const k of [1, 4, 57]) {
        const found = nearestNeighbors({ queries, candidates, k, queryTile, candidateTile });
        check(found, ranked(queries, candidates), k);
      }
      for (const k of [1, 56]) {
        const options = { queries: candidates, candidates, k, queryTile, candidateTile, excludeSelf: true };
        check(nearestNeighbors(options), ranked(candidates, candidates, true), k);
      }
    });
  }

  it('takes rows of zeros and other floating-point types', () => {
    const withZero = torch.cat([torch.zeros([1, 5], { device }), candidates], 0);
    const { similarities } = nearestNeighbors({ queries: withZero.narrow(0, 0, 1), candidates: withZero, k: 2 });
    assert.deepEqual(numbers(similarities), [0, 0]);
    const wide = nearestNeighbors({ queries: queries.to('float64'), candidates: candidates.to('float64'), k: 3 });
    assert.equal(wide.similarities.dtype, 'float64');
    check(wide, ranked(queries, candidates), 3);
    const [coarseQueries, coarse] = [queries.to('bfloat16'), candidates.to('bfloat16')];
    check(nearestNeighbors({ queries: coarseQueries, candidates: coarse, k: 3 }), ranked(coarseQueries, coarse), 3);
  });

  it('frees all but the result', () => {
    const before = memory().liveTensors;
    nearestNeighbors({ queries, candidates, k: 3, queryTile: 4, candidateTile: 10 });
    assert.equal(memory().liveTensors, before + 2);
  });

  it('rejects what does not fit', () => {
    rejects(() => nearestNeighbors({ queries, candidates, k: 58 }), 'from 1 to 57');
    rejects(() => nearestNeighbors({ queries, candidates, k: 0 }), 'from 1 to 57');
    rejects(() => nearestNeighbors({ queries, candidates, k: 1.5 }), 'from 1 to 57');
    rejects(() => nearestNeighbors({ queries: candidates, candidates, k: 57, excludeSelf: true }), 'from 1 to 56');
    rejects(() => nearestNeighbors({ queries, candidates, excludeSelf: true }), 'same rows');
    rejects(() => nearestNeighbors({ queries, candidates, queryTile: 0 }), 'queryTile');
    rejects(() => nearestNeighbors({ queries, candidates, candidateTile: 0.5 }), 'candidateTile');
    rejects(() => nearestNeighbors({ queries, candidates: randomFeatures(57, 6) }), '[N, 5]');
    rejects(() => nearestNeighbors({ queries, candidates: candidates.to('float64') }), 'float32');
    rejects(() => nearestNeighbors({ queries: queries.flatten(), candidates }), '[N, D]');
    rejects(() => nearestNeighbors({ queries: queries.narrow(0, 0, 0), candidates }), 'at least one row');
    rejects(() => nearestNeighbors({ queries: queries.to('int64'), candidates }), 'int64');
    const broken = queries.clone();
    broken.at(3, 2).fill_(NaN);
    rejects(() => nearestNeighbors({ queries: broken, candidates }), 'NaN');
  });
});

describe('knnClassify', () => {
  const classes = 4;
  const trainFeatures = clusters(120, 6, classes, 1.5, 1);
  const testFeatures = clusters(50, 6, classes, 1.5, 2);
  const trainLabels = cyclicLabels(120, classes);
  const testLabels = cyclicLabels(50, classes);
  const data = { trainFeatures, trainLabels, testFeatures, testLabels, classes };

  for (const [k, temperature] of [
    [1, 0.07],
    [7, 0.07],
    [7, 0.005],
    [120, 0.5],
    [120, 10],
  ]) {
    it(`votes as a loop over all pairs does, k ${k}, temperature ${temperature}`, () => {
      const predicted = rowsOf(testFeatures).map((query) => {
        const nearest = rowsOf(trainFeatures)
          .map((row, index) => ({ label: index % classes, similarity: cosine(query, row) }))
          .sort((x, y) => y.similarity - x.similarity)
          .slice(0, k);
        const votes = new Array<number>(classes).fill(0);
        for (const { label, similarity } of nearest) votes[label] += Math.exp((similarity - 1) / temperature);
        return votes.indexOf(Math.max(...votes));
      });
      const result = knnClassify({ ...data, k, temperature });
      assert.deepEqual(numbers(result.predictions), predicted);
      const right = predicted.map((label, i) => label === i % classes);
      assert.equal(result.accuracy, right.filter(Boolean).length / 50);
      for (let c = 0; c < classes; c++) {
        const own = right.filter((_, i) => i % classes === c);
        assert.equal(result.classAccuracy[c], own.filter(Boolean).length / own.length);
      }
      assert.ok(result.accuracy > 0.3 && result.accuracy < 1, String(result.accuracy));
    });
  }

  it('tells separate clusters apart, and gives NaN for a class without test images', () => {
    const result = knnClassify({
      ...data,
      trainFeatures: clusters(120, 6, classes, 0.01, 1),
      testFeatures: clusters(3, 6, classes, 0.01, 2),
      testLabels: cyclicLabels(3, classes),
    });
    assert.equal(result.accuracy, 1);
    assert.deepEqual(result.classAccuracy, [1, 1, 1, NaN]);
  });

  it('frees all but the predictions', () => {
    const before = memory().liveTensors;
    knnClassify({ ...data, k: 5 });
    assert.equal(memory().liveTensors, before + 1);
  });

  it('rejects what does not fit', () => {
    rejects(() => knnClassify({ ...data, temperature: 0 }), 'temperature');
    rejects(() => knnClassify({ ...data, temperature: NaN }), 'temperature');
    rejects(() => knnClassify({ ...data, k: 121 }), 'from 1 to 120');
    rejects(() => knnClassify({ ...data, classes: 3 }), 'from 0 to 3');
    rejects(() => knnClassify({ ...data, trainLabels: trainLabels.sub(1) }), 'from -1 to 2');
    rejects(() => knnClassify({ ...data, trainLabels: trainLabels.to('float32') }), 'int64 [120]');
    rejects(() => knnClassify({ ...data, testLabels: trainLabels }), 'int64 [50]');
    rejects(() => knnClassify({ ...data, testFeatures: randomFeatures(50, 5) }), '[N, 6]');
  });
});
