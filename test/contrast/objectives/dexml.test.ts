import assert from 'node:assert/strict';
import { dexml, softTopK, type DexmlOptions } from '../../../src/contrast/objectives/dexml';
import { grad, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import { assertRefuses, assertValue, cosine, dot, ids, learning, mean, random, rowsOf, total } from './plain';
import { someTargets } from './table';

const similarities = { cosine, dot };

/** The losses of all anchors, 0 of those without positives, and the mean over those with some. */
function byLoop(anchors: Tensor, labels: Tensor, targets: boolean[][], options: DexmlOptions): [number[], number] {
  const { positives = 'mean' } = options;
  const similarity = similarities[options.similarity as 'cosine' | 'dot'];
  const b = rowsOf(labels);
  const losses = rowsOf(anchors).map((row, i) => {
    const exponentials = b.map((other) => Math.exp(similarity(row, other) / (options.temperature as number)));
    const negatives = total(exponentials.filter((_, j) => !targets[i]![j]!));
    const own = exponentials.filter((_, j) => targets[i]![j]!);
    const terms = own.map((e) => -Math.log(e / (e + negatives)));
    return terms.length === 0 ? 0 : positives === 'mean' ? mean(terms) : total(terms);
  });
  const having = losses.filter((_, i) => targets[i]!.some(Boolean));
  return [losses, having.length === 0 ? 0 : mean(having)];
}

describe('dexml', () => {
  it('equals a loop, with a matrix of targets', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 23]) {
        const [a, labels] = [random([count, 4]), random([count + 2, 4])];
        const targets = someTargets(count, count + 2);
        const table = targets.toArraySync() as boolean[][];
        for (const similarity of ['cosine', 'dot'] as const) {
          for (const positives of ['mean', 'sum'] as const) {
            const options = { similarity, positives, temperature: 0.4 };
            const [losses, average] = byLoop(a, labels, table, options);
            const each = dexml(a, labels, targets, { ...options, reduction: 'none' });
            assertClose(each, torch.tensor(losses, { dtype: 'float64' }), { atol: 1e-10, rtol: 1e-10 });
            assertValue(dexml(a, labels, targets, options), average);
          }
        }
      }
    });
  });

  it('gives the same with classes, dense and tiled', () => {
    scope(() => {
      for (const [rows, columns] of [
        [1, 1],
        [3, 2],
        [130, 260],
      ] as const) {
        const [a, labels] = [random([rows, 4]), random([columns, 4])];
        const classes = {
          anchors: ids(Array.from({ length: rows }, (_, i) => i % 7)),
          labels: ids(Array.from({ length: columns }, (_, i) => i % 5)),
        };
        const targets = classes.anchors.unsqueeze(1).eq(classes.labels.unsqueeze(0));
        for (const positives of ['mean', 'sum'] as const) {
          const expected = dexml(a, labels, targets, { positives });
          for (const execution of ['dense', 'tiled'] as const) {
            assertClose(dexml(a, labels, classes, { positives, execution }), expected, { atol: 1e-10, rtol: 1e-10 });
          }
        }
      }
    });
  });

  it('is 0, with gradients of 0, for anchors without positives or without negatives', () => {
    scope(() => {
      const [a, labels] = [learning([2, 3]), learning([2, 3])];
      const targets = torch.tensor([[false, false], [true, true]]); // prettier-ignore
      const losses = dexml(a, labels, targets, { reduction: 'none' });
      assertClose(losses.detach(), torch.zeros([2], { dtype: 'float64' }), { atol: 0 });
      for (const slope of grad(losses.sum(), [a, labels])) assert.equal(slope!.eq(0).all().itemSync(), 1);
    });
  });

  it('refuses what does not fit', () => {
    const [a, labels] = [random([2, 3]), random([4, 3])];
    const targets = someTargets(2, 4);
    assertRefuses(
      () => dexml(a, labels, someTargets(4, 2)),
      /dexml: targets must be bool \[2, 4\], found bool \[4, 2\]/,
    );
    assertRefuses(() => dexml(a, random([4, 2]), targets), /dexml: labels: expected shape \[N, 3\]/);
    assertRefuses(() => dexml(a, labels, targets, { execution: 'tiled' }), /goes with the dense form/);
    assertRefuses(() => dexml(a, labels, targets, { similarity: 'euclidean' }), /give classes for 'euclidean'/);
  });
});

describe('softTopK', () => {
  it('chooses k labels in all: equals a loop with a threshold found by Newton steps', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 23]) {
        const [a, labels] = [random([count, 4]), random([count + 3, 4])];
        const targets = someTargets(count, count + 3);
        const table = targets.toArraySync() as boolean[][];
        for (const k of [1, 2.5, 'positives'] as const) {
          const losses = rowsOf(a).map((row, i) => {
            const scores = rowsOf(labels).map((other) => (2 * cosine(row, other)) / 0.5);
            const wanted = k === 'positives' ? table[i]!.filter(Boolean).length : k;
            if (!table[i]!.some(Boolean)) return 0;
            let t = 0;
            for (let step = 0; step < 200; step++) {
              const chosen = scores.map((s) => 1 / (1 + Math.exp(-s - t)));
              t -= Math.max(-1, Math.min(1, (total(chosen) - wanted) / total(chosen.map((z) => z * (1 - z)))));
            }
            return mean(scores.filter((_, j) => table[i]![j]!).map((s) => Math.log1p(Math.exp(-s - t))));
          });
          const each = softTopK(a, labels, targets, { k, temperature: 0.5, reduction: 'none' });
          assertClose(each, torch.tensor(losses, { dtype: 'float64' }), { atol: 1e-9, rtol: 1e-9 });
        }
      }
    });
  });

  it('is 0 where nothing is right, and where everything is and may be chosen', () => {
    scope(() => {
      const [a, labels] = [learning([2, 3]), learning([2, 3])];
      const targets = torch.tensor([[false, false], [true, true]]); // prettier-ignore
      const losses = softTopK(a, labels, targets, { k: 'positives', reduction: 'none' });
      assertClose(losses.detach(), torch.zeros([2], { dtype: 'float64' }), { atol: 0 });
      for (const slope of grad(losses.sum(), [a, labels])) assert.equal(slope!.eq(0).all().itemSync(), 1);
    });
  });

  it('has a loss near 0 where the right labels are far ahead', () => {
    scope(() => {
      const eye = torch.eye(3, { dtype: 'float64' });
      const loss = softTopK(eye, eye, torch.eye(3).to('bool'), { k: 1 });
      assert.ok(loss.itemSync() > 0 && loss.itemSync() < 1e-6);
    });
  });

  it('refuses what does not fit', () => {
    const [a, labels] = [random([2, 3]), random([4, 3])];
    const targets = someTargets(2, 4);
    assertRefuses(
      () => softTopK(a, labels, targets),
      /k must be above 0 and below the number of labels, 4, .* found 5/,
    );
    assertRefuses(() => softTopK(a, labels, targets, { k: 1, sharpness: 0 }), /sharpness must be a number above 0/);
    assertRefuses(() => softTopK(a, labels, targets.to('int64'), { k: 1 }), /targets must be bool/);
  });
});
