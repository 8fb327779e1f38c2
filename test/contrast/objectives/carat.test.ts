import assert from 'node:assert/strict';
import { carat, caratClasses } from '../../../src/contrast/objectives/carat';
import { grad, scope, torch, type Tensor } from '../../../src/torch';
import { numbers } from '../../support/close';
import {
  assertExecutionsAgree,
  assertFinite,
  assertGradients,
  assertRefuses,
  assertValue,
  cosine,
  ids,
  learning,
  mean,
  random,
  rowsOf,
  sumExp,
} from './plain';

const labelsOf = (count: number): boolean[][] =>
  Array.from({ length: count }, (_, i) => [i % 2 === 0, i % 3 === 0, true]);

/** Rows with their classes in words, so that nothing of how classes are numbered is in it. */
function byLoop(features: Tensor[][], labels: boolean[][], queue: { rows: number[][]; classes: string[] }): number {
  const rows: number[][] = [...queue.rows];
  const classes: string[] = [...queue.classes];
  for (const level of features) {
    level.forEach((x, m) => {
      rowsOf(x.flatten(0, 1)).forEach((row, i) => {
        const [sample, label] = [Math.floor(i / 3), i % 3];
        rows.push(row);
        classes.push(`${label} in ${m}: ${String(labels[sample]![label])}`);
      });
    });
  }
  const losses = rows.flatMap((row, i) => {
    const others = rows.map((_, j) => j).filter((j) => j !== i);
    const positives = others.filter((j) => classes[j] === classes[i]);
    const score = (j: number): number => cosine(row, rows[j]!) / 0.07;
    return positives.length === 0 ? [] : [Math.log(sumExp(others.map(score))) - mean(positives.map(score))];
  });
  return losses.length === 0 ? 0 : mean(losses);
}

describe('carat', () => {
  it('equals a loop over labels, modalities and levels', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5]) {
        for (const levels of [1, 2]) {
          const features = Array.from({ length: levels }, () => [random([count, 3, 4]), random([count, 3, 4])]);
          const labels = labelsOf(count);
          const queued = random([3, 4]);
          // Label 2 where it holds, in modality 1: 2 + 3·2; label 0 where it does not, in modality 0: 0 + 3·1.
          const queue = { embeddings: queued, classes: ids([8, 8, 3]) };
          const words = ['2 in 1: true', '2 in 1: true', '0 in 0: false'];
          for (const execution of ['dense', 'tiled'] as const) {
            const plain = carat(features, torch.tensor(labels), { execution });
            assertValue(plain, byLoop(features, labels, { rows: [], classes: [] }));
            const loss = carat(features, torch.tensor(labels), { execution, queue });
            assertValue(loss, byLoop(features, labels, { rows: rowsOf(queued), classes: words }));
          }
        }
      }
    });
  });

  it('numbers classes by label, modality and whether the label holds', () => {
    scope(() => {
      const labels = torch.tensor([[true, false]]);
      assert.deepEqual(numbers(caratClasses(labels, 2)), [0, 3, 4, 7]);
      assert.deepEqual(numbers(caratClasses(labels, 1, 2)), [0, 3, 0, 3]);
    });
  });

  it('agrees between dense and tiled, has right gradients, none for the queue, and is finite', () => {
    scope(() => {
      const [a, b, queued] = [learning([25, 3, 4]), learning([25, 3, 4]), learning([7, 4])];
      const labels = torch.tensor(labelsOf(25));
      const queue = { embeddings: queued, classes: ids([0, 1, 2, 3, 4, 5, 6]) };
      assertExecutionsAgree((execution) => carat([[a, b]], labels, { queue, execution }), [a, b]);
      assert.equal(grad(carat([[a, b]], labels, { queue }), [queued], { allowUnused: true })[0], null);
      const few = torch.tensor(labelsOf(2));
      assertGradients(
        (execution, x, y) => carat([[x!], [y!]], few, { execution }),
        [learning([2, 3, 2]), learning([2, 3, 2])],
      );
    });
    assertFinite(
      (temperature, x, y) => carat([[x!, y!]], torch.tensor(labelsOf(4)), { temperature }),
      [
        [4, 3, 2],
        [4, 3, 2],
      ],
    );
  });

  it('refuses what does not fit', () => {
    const [x, labels] = [random([2, 3, 4]), torch.tensor(labelsOf(2))];
    assertRefuses(() => carat([], labels), /carat: there are no features/);
    assertRefuses(() => carat([[x]], ids([1, 2])), /labels: expected bool \[N, L\], found int64 \[2\]/);
    assertRefuses(() => carat([[x, x], [x]], labels), /features\[1\] has 1 modalities, features\[0\] 2/);
    assertRefuses(() => carat([[x, random([2, 2, 4])]], labels), /features\[0\]\[1\]: expected shape \[2, 3, 4\]/);
    const queue = { embeddings: random([2, 4]), classes: ids([1]) };
    assertRefuses(() => carat([[x]], labels, { queue }), /queue.classes: expected shape \[2\]/);
    assertRefuses(() => carat([[x]], labels, { temperature: 0 }), /temperature must be a number above 0/);
  });
});
