import assert from 'node:assert/strict';
import { seA, semanticAdversarial } from '../../../src/negatives/mixing';
import { noGrad, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import { assertRefuses, dot, learning, random, rowsOf, sumExp, unit } from '../../contrast/objectives/plain';

const units = (shape: number[]): Tensor => torch.tensor(rowsOf(random(shape)).map(unit), { dtype: 'float64' });

function byLoop(features: number[][], slopes: number[][], step: number, temperature: number): number[][] {
  return features.map((x, i) => {
    const others = features.flatMap((_, j) => (j === i ? [] : [j]));
    const scores = others.map((j) => dot(unit(slopes[i]!), features[j]!) / temperature);
    const top = Math.max(...scores);
    const weights = scores.map((s) => Math.exp(s - top) / sumExp(scores.map((v) => v - top)));
    const along = unit(x.map((_, d) => others.reduce((sum, j, at) => sum + weights[at]! * features[j]![d]!, 0)));
    return unit(x.map((v, d) => v + step * along[d]!));
  });
}

describe('semanticAdversarial', () => {
  it('equals a loop', () => {
    scope(() => {
      for (const count of [2, 3, 7]) {
        const [x, g] = [units([count, 4]), random([count, 4])];
        for (const [step, temperature] of [
          [0.8, 0.01],
          [0.3, 0.5],
        ] as const) {
          const expected = torch.tensor(byLoop(rowsOf(x), rowsOf(g), step, temperature), { dtype: 'float64' });
          assertClose(semanticAdversarial(x, g, { step, temperature }), expected, { atol: 1e-10, rtol: 0 });
        }
      }
    });
  });

  it('refuses what does not fit', () => {
    assertRefuses(() => semanticAdversarial(units([1, 3]), random([1, 3])), /one sample has no others/);
    assertRefuses(() => semanticAdversarial(units([2, 3]), random([3, 3])), /slopes: expected shape \[2, 3\]/);
    assertRefuses(
      () => semanticAdversarial(units([2, 3]), random([2, 3]), { temperature: 0 }),
      /temperature must be a number above 0/,
    );
  });
});

describe('seA', () => {
  it('takes the slopes of the loss, also without recording, and leaves no gradient behind', () => {
    scope(() => {
      const [x, weight] = [units([5, 4]), learning([3, 4])];
      const labels = torch.tensor([0n, 1n, 2n, 0n, 1n]);
      const loss = (features: Tensor): Tensor => features.matmul(weight.t()).crossEntropyLoss(labels);
      const slopes = rowsOf(x).map((row, i) => {
        const logits = rowsOf(weight).map((w) => dot(w, row));
        const p = logits.map((v) => Math.exp(v) / sumExp(logits));
        return row.map((_, d) =>
          p.reduce((sum, v, c) => sum + (v - (c === [0, 1, 2, 0, 1][i] ? 1 : 0)) * rowsOf(weight)[c]![d]!, 0),
        );
      });
      const expected = torch.tensor(byLoop(rowsOf(x), slopes, 0.8, 0.01), { dtype: 'float64' });
      const found = noGrad(() => seA(x, loss));
      assertClose(found, expected, { atol: 1e-8, rtol: 0 });
      assert.equal(seA(x, loss).requiresGrad, false);
      assert.equal(weight.grad, null);
    });
  });
});
