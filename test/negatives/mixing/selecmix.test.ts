import assert from 'node:assert/strict';
import { contradictingPartners, generalizedSupCon, selecMix } from '../../../src/negatives/mixing';
import { drawBeta } from '../../../src/negatives/mixing/mix';
import { Generator, grad, gradcheck, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose, numbers } from '../../support/close';
import {
  assertRefuses,
  assertValue,
  cosine,
  ids,
  learning,
  mean,
  random,
  rowsOf,
  total,
} from '../../contrast/objectives/plain';

describe('contradictingPartners', () => {
  it('finds the least alike of the same label, and the most alike of others, also where all are below 0', () => {
    scope(() => {
      for (const labels of [[0], [0, 0, 0], [0, 1, 2], [0, 1, 0, 1, 2, 0]]) {
        const count = labels.length;
        for (const similarity of [random([count, count]), random([count, count]).abs().neg().sub(1)]) {
          const rows = rowsOf(similarity);
          for (const pairs of ['same-label', 'other-label'] as const) {
            const { partners, found } = contradictingPartners(similarity, ids(labels), pairs);
            rows.forEach((row, i) => {
              const allowed = row.flatMap((_, j) =>
                (pairs === 'same-label' ? labels[j] === labels[i] && j !== i : labels[j] !== labels[i]) ? [j] : [],
              );
              const sign = pairs === 'same-label' ? -1 : 1;
              const best = allowed.sort((a, b) => sign * (row[b]! - row[a]!))[0];
              assert.equal(numbers(partners)[i], best ?? i);
              assert.equal(numbers(found)[i], best === undefined ? 0 : 1);
            });
          }
        }
      }
    });
  });
});

describe('selecMix', () => {
  it('gives the partner the larger share and the label', () => {
    scope(() => {
      const [x, similarity, labels] = [random([5, 2, 2]), random([5, 5]), [0, 1, 0, 1, 1]];
      const generator = new Generator({ seed: 4 });
      const mixed = selecMix(x, ids(labels), similarity, { pairs: 'other-label', generator });
      const share = numbers(drawBeta([5], 1, new Generator({ seed: 4 }))).map((v) => v / 2);
      const { partners } = contradictingPartners(similarity, ids(labels), 'other-label');
      assert.deepEqual(numbers(mixed.partners), numbers(partners));
      const rows = rowsOf(x.flatten(1));
      numbers(partners).forEach((j, i) => {
        const expected = rows[i]!.map((v, d) => share[i]! * v + (1 - share[i]!) * rows[j]![d]!);
        assertClose(mixed.inputs.select(0, i).flatten(), torch.tensor(expected, { dtype: 'float64' }), {
          atol: 1e-12,
          rtol: 0,
        });
        assert.equal(numbers(mixed.labels)[i], labels[j]);
      });
    });
  });

  it('throws a fair coin between both kinds', () => {
    scope(() => {
      const [x, similarity, labels] = [random([4, 2]), random([4, 4]), ids([0, 0, 1, 1])];
      const generator = new Generator({ seed: 1 });
      let same = 0;
      for (let trial = 0; trial < 200; trial++) {
        const mixed = selecMix(x, labels, similarity, { generator });
        if (numbers(mixed.labels).join() === numbers(labels).join()) same += 1;
      }
      assert.ok(same > 70 && same < 130, String(same));
    });
  });

  it('refuses what does not fit', () => {
    const generator = new Generator({ seed: 1 });
    const x = random([3, 2]);
    const run = (labels: Tensor, similarity: Tensor) => () => selecMix(x, labels, similarity, { generator }).inputs;
    assertRefuses(run(ids([0, 1]), random([3, 3])), /labels: expected shape \[3\]/);
    assertRefuses(run(ids([0, 1, 1]), random([3, 2])), /similarity: expected shape \[3, 3\]/);
  });
});

describe('generalizedSupCon', () => {
  it('equals a loop', () => {
    scope(() => {
      for (const labels of [[0], [0, 0], [0, 1], [0, 1, 0, 1, 2, 0]]) {
        const z = random([labels.length, 3]);
        const rows = rowsOf(z);
        const losses = rows.map((row, i) => {
          const others = rows.flatMap((_, a) => (a === i ? [] : [a]));
          const e = (a: number): number => Math.exp(cosine(row, rows[a]!) / 0.2);
          const positives = others.filter((p) => labels[p] === labels[i]);
          if (positives.length === 0) return 0;
          const p = positives.map((a) => e(a) / total(others.map(e)));
          return -mean(p.map((x) => 0.7 * x ** 0.7 * Math.log(x)));
        });
        assertValue(generalizedSupCon(z, ids(labels)), mean(losses));
        const each = generalizedSupCon(z, ids(labels), { reduction: 'none' });
        assertClose(each, torch.tensor(losses, { dtype: 'float64' }), { atol: 1e-10, rtol: 0 });
      }
    });
  });

  it('has the gradient of its logarithms, weighted', () => {
    scope(() => {
      const labels = ids([0, 1, 0, 1]);
      const z = learning([4, 3]);
      const [slope] = grad(generalizedSupCon(z, labels), z);
      // The same with the weights held fixed, which finite differences can check.
      const fixed = z.detach();
      const logits = (x: Tensor): Tensor => {
        const unit = x.div(x.linalgVectorNorm(2, [1], true));
        return unit
          .matmul(unit.t())
          .div(0.2)
          .maskedFill(torch.eye(4, { dtype: 'bool' }), -Infinity)
          .logSoftmax(1);
      };
      const positives = labels.unsqueeze(1).eq(labels).fillDiagonal_(0);
      const weights = logits(fixed).exp().pow(0.7).mul(0.7).detach();
      const loss = (x: Tensor): Tensor => logits(x).mul(weights).maskedSelect(positives).sum().div(-4);
      gradcheck((x) => loss(x!), [z]);
      assertClose(slope!, grad(loss(z), z)[0]!, { atol: 1e-10, rtol: 0 });
    });
  });
});
