import { suMix, suMixShares, type SUMixBatch } from '../../../src/negatives/mixing';
import { grad, gradcheck, scope, torch, type Tensor } from '../../../src/torch';
import assert from 'node:assert/strict';
import { assertClose } from '../../support/close';
import { assertRefuses, ids, learning, random, rowsOf, sumExp, unit } from '../../contrast/objectives/plain';

const softmax = (row: number[]): number[] => row.map((x) => Math.exp(x) / sumExp(row));
const share = (values: number[]): Tensor => torch.tensor(values, { dtype: 'float64' });

function byLoop(batch: SUMixBatch, labels: number[], partners: number[], lambda: number[], scale: number) {
  const [clean, mixed] = [rowsOf(batch.clean).map(softmax), rowsOf(batch.mixed).map(softmax)];
  return labels.map((own, i) => {
    const other = labels[partners[i]!]!;
    const far = (p: number[], without: number): number[] =>
      unit(softmax(p.map((v, c) => mixed[i]![c]! - (c === without ? 0 : v)))).map((v) => v * scale);
    const [a, b] = [far(clean[i]!, other), far(clean[partners[i]!]!, own)];
    const [x, y] = [lambda[i]! * Math.exp(-a[own]!), (1 - lambda[i]!) * Math.exp(-b[other]!)];
    const ce = (logits: number[], at: number): number => Math.log(sumExp(logits)) - logits[at]!;
    return { a, b, own, other, share: x / (x + y), ce };
  });
}

const setup = (count: number) => {
  const labels = Array.from({ length: count }, (_, i) => i % 3);
  const partners = labels.map((_, i) => (i * 2 + 1) % count);
  const lambda = labels.map((_, i) => 0.2 + 0.6 * Math.sin(i) ** 2);
  const batch: SUMixBatch = {
    clean: random([count, 3]),
    mixed: random([count, 3]),
    labels: ids(labels),
    partners: ids(partners),
    lambda: share(lambda),
  };
  return { labels, partners, lambda, batch };
};

describe('suMix', () => {
  it('equals a loop, with uncertainty and without', () => {
    scope(() => {
      for (const count of [1, 2, 3, 7]) {
        const { labels, partners, lambda, batch } = setup(count);
        const rows = byLoop(batch, labels, partners, lambda, count);
        assertClose(suMixShares(batch), share(rows.map((row) => row.share)), { atol: 1e-10, rtol: 0 });
        const mixed = rowsOf(batch.mixed);
        const main = rows.map(
          ({ share: s, ce, own, other }, i) => s * ce(mixed[i]!, own) + (1 - s) * ce(mixed[i]!, other),
        );
        assertClose(suMix(batch, { reduction: 'none' }), share(main), { atol: 1e-10, rtol: 0 });
        const uncertainty = { clean: random([count, 3]), mixed: random([count, 3]) };
        const [u, v] = [uncertainty.clean, uncertainty.mixed].map((x) => rowsOf(x).map((row) => unit(softmax(row))));
        const whole = rows.map(({ a, b, own, other, ce }, i) => {
          const [first, second] = [a, b].map((x, side) =>
            x.map((far, c) => Math.exp(-(far + u![side === 0 ? i : partners[i]!]![c]! + v![i]![c]!))),
          );
          return main[i]! + 0.5 * (lambda[i]! * ce(first!, own) + (1 - lambda[i]!) * ce(second!, other));
        });
        assertClose(suMix(batch, { uncertainty, reduction: 'none' }), share(whole), { atol: 1e-10, rtol: 0 });
      }
    });
  });

  it('has gradients of the mixes by fixed shares, of the uncertainties, and none of the clean logits', () => {
    scope(() => {
      const { batch } = setup(4);
      const uncertainty = { clean: random([4, 3]), mixed: random([4, 3]) };
      gradcheck(
        (clean, mixed) => suMix(batch, { uncertainty: { clean: clean!, mixed: mixed! } }),
        [learning([4, 3]), learning([4, 3])],
      );
      const [clean, mixed] = [learning([4, 3]), learning([4, 3])];
      const given = { ...batch, clean, mixed };
      const [ofClean, ofMixed] = grad(suMix(given, { uncertainty }), [clean, mixed], { allowUnused: true });
      assert.equal(ofClean, null);
      const fixed = suMixShares(given);
      const others = batch.labels.indexSelect(0, batch.partners);
      const ce = (of: Tensor): Tensor => mixed.logSoftmax(1).gather(1, of.unsqueeze(1)).squeeze(1).neg();
      const plain = fixed
        .mul(ce(batch.labels))
        .add(fixed.neg().add(1).mul(ce(others)))
        .mean();
      assertClose(ofMixed!, grad(plain, mixed)[0]!, { atol: 1e-10, rtol: 0 });
    });
  });

  it('stays a number for large scales and shares of 0 and 1', () => {
    scope(() => {
      const { batch } = setup(3);
      const found = suMixShares({ ...batch, lambda: share([0, 0.5, 1]) }, 5000);
      assert.equal(found.isfinite().all().itemSync(), 1);
      assert.deepEqual([rowsOf(found.unsqueeze(0))[0]![0], rowsOf(found.unsqueeze(0))[0]![2]], [0, 1]);
    });
  });

  it('refuses what does not fit', () => {
    const { batch } = setup(3);
    assertRefuses(() => suMix({ ...batch, mixed: random([3, 4]) }), /mixed: expected shape \[3, 3\]/);
    assertRefuses(() => suMix({ ...batch, partners: ids([1]) }), /partners: expected shape \[3\]/);
    assertRefuses(() => suMix(batch, { gamma: -1 }), /gamma must be a number at least 0/);
  });
});
