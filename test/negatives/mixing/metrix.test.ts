import assert from 'node:assert/strict';
import { metrix, metrixMixed, metrixTriples, metrixUtilization } from '../../../src/negatives/mixing';
import { drawAllowed, drawBeta } from '../../../src/negatives/mixing/mix';
import { Generator, grad, gradcheck, scope, torch, type Tensor } from '../../../src/torch';
import { numbers } from '../../support/close';
import {
  assertRefuses,
  assertValue,
  cosine,
  dot,
  ids,
  learning,
  mean,
  random,
  rowsOf,
  squared,
  total,
  unit,
} from '../../contrast/objectives/plain';

const aboveZero = (terms: number[]): number => total(terms) / Math.max(1, terms.filter((x) => x > 0).length);

interface Case {
  labels: number[];
  mix: 'positive' | 'anchor';
  form: 'contrastive' | 'multi-similarity';
}

function byLoop(z: Tensor, { labels, mix, form }: Case, seed: number): number {
  const rows = rowsOf(z).map(unit);
  const all = labels.map((_, i) => i);
  const positivesOf = (a: number): number[] => all.filter((p) => p !== a && labels[p] === labels[a]);
  const negativesOf = (a: number): number[] => all.filter((n) => labels[n] !== labels[a]);
  const generator = new Generator({ seed });
  const mask = torch.tensor(all.map((a) => all.map((p) => positivesOf(a).includes(p))));
  const partners = mix === 'anchor' ? all : numbers(drawAllowed(mask, generator));
  const y = numbers(drawBeta([], 2, generator))[0]!;
  const mixes = all.map((a) =>
    mix === 'anchor' || positivesOf(a).length > 0
      ? negativesOf(a).map((n) => unit(rows[partners[a]!]!.map((v, d) => y * v + (1 - y) * rows[n]![d]!)))
      : [],
  );
  const s = (a: number, x: number[]): number => dot(rows[a]!, x);
  if (form === 'contrastive') {
    const d = (a: number, x: number[]): number => Math.sqrt(squared(rows[a]!, x));
    const hinge = (x: number): number => Math.max(0, 0.5 - x);
    const each = (of: (a: number) => number[]): number => aboveZero(all.flatMap(of));
    const clean =
      each((a) => positivesOf(a).map((p) => d(a, rows[p]!))) +
      each((a) => negativesOf(a).map((n) => hinge(d(a, rows[n]!))));
    const soft =
      each((a) => mixes[a]!.map((v) => y * d(a, v))) + each((a) => mixes[a]!.map((v) => (1 - y) * hinge(d(a, v))));
    return clean + 0.4 * soft;
  }
  const losses = all
    .filter((a) => positivesOf(a).length > 0)
    .map((a) => {
      const sum = (scale: number, clean: number[], part: number): number =>
        Math.log(
          1 +
            total(clean.map((x) => Math.exp(scale * (s(a, rows[x]!) - 0.5)))) +
            0.4 * total(mixes[a]!.map((v) => part * Math.exp(scale * (s(a, v) - 0.5)))),
        ) / Math.abs(scale);
      return sum(-2, positivesOf(a), y) + sum(50, negativesOf(a), 1 - y);
    });
  return losses.length === 0 ? 0 : mean(losses);
}

const labelSets = [[0], [0, 0], [0, 1], [0, 0, 1], [0, 1, 0, 1, 2, 0, 1]];

describe('metrix', () => {
  it('equals a loop', () => {
    scope(() => {
      for (const labels of labelSets) {
        for (const mix of ['positive', 'anchor'] as const) {
          for (const form of ['contrastive', 'multi-similarity'] as const) {
            const z = random([labels.length, 3]);
            const found = metrix(z, ids(labels), { mix, form, generator: new Generator({ seed: 5 }) });
            assertValue(found, byLoop(z, { labels, mix, form }, 5), `${form}, ${mix}, ${labels.join()}`);
          }
        }
      }
    });
  });

  it('has gradients through mixes and all they are made of', () => {
    const labels = ids([0, 1, 0, 1, 2]);
    for (const form of ['contrastive', 'multi-similarity'] as const) {
      for (const mix of ['positive', 'anchor'] as const) {
        gradcheck(
          (z) => metrix(z!, labels, { form, mix, margin: 0.9, generator: new Generator({ seed: 1 }) }),
          [learning([5, 3])],
        );
      }
    }
  });

  it('is a number with a finite gradient for equal embeddings, also in float32', () => {
    scope(() => {
      const z = torch.ones([4, 3], { dtype: 'float32' }).requiresGrad_();
      for (const form of ['contrastive', 'multi-similarity'] as const) {
        const loss = metrix(z, ids([0, 0, 1, 1]), { form, generator: new Generator({ seed: 1 }) });
        assert.ok(Number.isFinite(loss.itemSync()));
        assert.equal(grad(loss, z)[0]!.isfinite().all().itemSync(), 1);
      }
    });
  });

  it('refuses what does not fit', () => {
    const generator = new Generator({ seed: 1 });
    const z = random([3, 2]);
    assertRefuses(() => metrix(z, ids([0, 1]), { generator }), /labels: expected shape \[3\]/);
    assertRefuses(() => metrix(z, ids([0, 1, 1]), { generator, weight: -1 }), /weight must be a number at least 0/);
    assertRefuses(() => metrix(z, ids([0, 1, 1]), { generator, form: 'triplet' as 'contrastive' }), /form must be/);
  });
});

describe('metrixTriples and metrixMixed', () => {
  it('puts together a positive and the nearest negative of each anchor that has both', () => {
    scope(() => {
      const labels = [0, 1, 0, 1, 2, 0];
      const z = random([6, 3]);
      const rows = rowsOf(z);
      for (const mix of ['positive', 'anchor'] as const) {
        const { anchors, firsts, seconds, lambda } = metrixTriples(z, ids(labels), {
          mix,
          generator: new Generator({ seed: 2 }),
        });
        assert.deepEqual(numbers(anchors), mix === 'anchor' ? [0, 1, 2, 3, 4, 5] : [0, 1, 2, 3, 5]);
        numbers(anchors).forEach((a, i) => {
          const first = numbers(firsts)[i]!;
          if (mix === 'anchor') assert.equal(first, a);
          else assert.ok(first !== a && labels[first] === labels[a]);
          const others = [0, 1, 2, 3, 4, 5].filter((n) => labels[n] !== labels[a]);
          const nearest = others.reduce((x, y) => (cosine(rows[a]!, rows[y]!) > cosine(rows[a]!, rows[x]!) ? y : x));
          assert.equal(numbers(seconds)[i], nearest);
        });
        assert.equal(new Set(numbers(lambda)).size, 1);
      }
      const none = metrixTriples(z, ids([0, 1, 2, 3, 4, 5]), { generator: new Generator({ seed: 2 }) });
      assert.deepEqual(none.anchors.shape, [0]);
    });
  });

  it('has the loss of a loop, and its gradients', () => {
    scope(() => {
      const [a, v] = [learning([5, 3]), learning([5, 3])];
      const lambda = [0, 0.3, 0.5, 0.9, 1];
      const share = torch.tensor(lambda, { dtype: 'float64' });
      const d = rowsOf(a).map((row, i) => Math.sqrt(squared(unit(row), unit(rowsOf(v)[i]!))));
      const expected =
        aboveZero(d.map((x, i) => lambda[i]! * x)) +
        aboveZero(d.map((x, i) => (1 - lambda[i]!) * Math.max(0, 1.2 - x)));
      assertValue(metrixMixed(a, v, share, { margin: 1.2 }), expected);
      gradcheck((x, y) => metrixMixed(x!, y!, share, { margin: 1.2 }), [a, v]);
    });
  });
});

describe('metrixUtilization', () => {
  it('equals a loop', () => {
    scope(() => {
      const [q, seen] = [random([3, 4]), random([7, 4])];
      const expected = rowsOf(q).map((row) =>
        Math.min(...rowsOf(seen).map((x) => Math.sqrt(squared(unit(row), unit(x))))),
      );
      assertValue(metrixUtilization(q, seen), mean(expected));
      assertValue(metrixUtilization(q, q), 0, 'itself', 1e-7);
    });
  });
});
