import { AdaMeow, meow, prototypeContrast } from '../../../src/contrast/objectives/meow';
import { gradcheck, scope, torch, type Tensor } from '../../../src/torch';
import { numbers } from '../../support/close';
import {
  assertExecutionsAgree,
  assertFinite,
  assertGradients,
  assertRefuses,
  assertValue,
  cosine,
  dot,
  ids,
  learning,
  mean,
  random,
  rowsOf,
  sumExp,
  total,
  unit,
} from './plain';

const groups = (count: number, every: number): number[] => Array.from({ length: count }, (_, i) => i % every);

describe('meow', () => {
  it('weighs a negative by how often it is in another cluster', () => {
    scope(() => {
      for (const count of [2, 3, 5, 13]) {
        const [a, b] = [random([count, 4]), random([count, 4])];
        const [x, y] = [rowsOf(a), rowsOf(b)];
        const clusterings = [groups(count, 2), groups(count, 3)];
        // The authors' form counts clusterings; ours takes their share.
        const losses = x.map((row, i) => {
          const weights = y.map((_, j) => total(clusterings.map((c) => (c[i] === c[j] ? 0 : 1))));
          const sum = total(y.map((key, j) => weights[j]! * Math.exp(cosine(row, key) / 0.4)));
          return Math.log(sum) - cosine(row, y[i]!) / 0.4 - Math.log(2);
        });
        assertValue(meow(a, b, clusterings.map(ids), { temperature: 0.4 }), mean(losses));
      }
      const one = [random([3, 2]), random([3, 2])] as const;
      assertValue(meow(...one, [ids([0, 0, 0]), ids([1, 1, 1])]), 0);
      assertValue(meow(random([1, 2]), random([1, 2]), [ids([0])]), 0);
    });
  });

  it('agrees between dense and tiled, has right gradients, and is finite', () => {
    scope(() => {
      const [a, b] = [learning([260, 4]), learning([260, 4])];
      const clusterings = [ids(groups(260, 4)), ids(groups(260, 7))];
      assertExecutionsAgree((execution) => meow(a, b, clusterings, { execution }), [a, b]);
      assertGradients(
        (execution, x, y) => meow(x!, y!, [ids([0, 0, 1, 0]), ids([0, 0, 0, 0])], { execution }),
        [learning([4, 2]), learning([4, 2])],
      );
    });
    assertFinite(
      (temperature, x, y) => meow(x!, y!, [ids(groups(5, 2))], { temperature }),
      [
        [5, 3],
        [5, 3],
      ],
    );
    assertRefuses(() => meow(random([2, 2]), random([2, 2]), []), /there are no clusterings/);
    assertRefuses(() => meow(random([2, 2]), random([2, 2]), [ids([1])]), /clustering 0: expected shape \[2\]/);
  });
});

describe('prototypeContrast', () => {
  it('draws embeddings to the centroids of their clusters', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 13]) {
        const [x, c] = [random([count, 4]), random([3, 4])];
        const concentrations = torch.tensor([0.3, 0.5, 0.9], { dtype: 'float64' });
        const losses = rowsOf(x).map((row, i) => {
          const scores = rowsOf(c).map((centre, k) => dot(unit(row), unit(centre)) / [0.3, 0.5, 0.9][k]!);
          return Math.log(sumExp(scores)) - scores[i % 3]!;
        });
        assertValue(prototypeContrast(x, c, ids(groups(count, 3)), { concentrations }), mean(losses));
      }
      const [x, c] = [learning([130, 4]), learning([260, 4])];
      assertExecutionsAgree((execution) => prototypeContrast(x, c, ids(groups(130, 7)), { execution }), [x, c]);
      assertGradients(
        (execution, y, p) => prototypeContrast(y!, p!, ids([0, 1, 1]), { execution }),
        [learning([3, 2]), learning([2, 2])],
      );
      assertValue(prototypeContrast(random([3, 2]), random([1, 2]), ids([0, 0, 0])), 0);
    });
    assertFinite(
      (temperature, x, c) => prototypeContrast(x!, c!, ids([0, 1, 0]), { temperature }),
      [
        [3, 4],
        [2, 4],
      ],
    );
  });
});

describe('AdaMeow', () => {
  it('weighs all pairs by a network of their sums', () => {
    scope(() => {
      const loss = new AdaMeow({ dimension: 3, hidden: 4, dtype: 'float64' });
      const [inner, outer] = [rowsOf(loss.inner.weight), rowsOf(loss.outer.weight)[0]!];
      const [bias, last] = [numbers(loss.inner.bias!.detach()), numbers(loss.outer.bias!.detach())[0]!];
      for (const count of [1, 2, 3, 5, 9]) {
        const [a, b] = [random([count, 3]), random([count, 3])];
        const [x, y] = [rowsOf(a).map(unit), rowsOf(b).map(unit)];
        const losses = x.map((row, i) => {
          const terms = y.map((key) => {
            const sum = row.map((value, d) => value + key[d]!);
            const logit =
              dot(
                outer,
                inner.map((w, h) => Math.tanh(dot(w, sum) + bias[h]!)),
              ) + last;
            return Math.exp(dot(row, key) / 0.5) / (1 + Math.exp(-logit));
          });
          return Math.log(total(terms)) - dot(row, y[i]!) / 0.5;
        });
        assertValue(loss.forward(a, b), mean(losses));
      }
      gradcheck((x, y) => loss.forward(x!, y!), [learning([3, 3]), learning([3, 3])]);
    });
    assertFinite(
      (temperature, x: Tensor, y: Tensor) => new AdaMeow({ dimension: 3, temperature }).forward(x, y),
      [
        [5, 3],
        [5, 3],
      ],
    );
  });
});
