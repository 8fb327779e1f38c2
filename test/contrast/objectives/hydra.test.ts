import assert from 'node:assert/strict';
import { ClassPairGate, gatedContrastive } from '../../../src/contrast/objectives/hydra';
import { gradcheck, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import {
  assertFinite,
  assertRefuses,
  assertValue,
  cosine,
  double,
  ids,
  learning,
  mean,
  random,
  rowsOf,
  sumExp,
} from './plain';

const expected = (a: Tensor, b: Tensor, gates: Tensor, t: number): number => {
  const g = rowsOf(gates);
  const oneWay = (x: number[][], y: number[][]): number[] =>
    x.map((row, i) => {
      const gated = (z: number[]): number[] => z.map((value, d) => value * g[i]![d]!);
      const scores = y.map((key) => cosine(gated(row), gated(key)) / t);
      return Math.log(sumExp(scores)) - scores[i]!;
    });
  return (mean(oneWay(rowsOf(a), rowsOf(b))) + mean(oneWay(rowsOf(b), rowsOf(a)))) / 2;
};

describe('gatedContrastive', () => {
  it("is InfoNCE in the subspace of each anchor's gate", () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 13]) {
        const [a, b, g] = [random([count, 4]), random([count, 4]), random([count, 4]).sigmoid()];
        assertValue(gatedContrastive(a, b, g, { temperature: 0.3 }), expected(a, b, g, 0.3));
        const penalty = mean(rowsOf(g).flatMap((row) => row.map((x) => x * (1 - x))));
        const options = { temperature: double(0.3), gatePenalty: 2 };
        assertValue(gatedContrastive(a, b, g, options), expected(a, b, g, 0.3) + 2 * penalty);
      }
      const [a, b, g] = [random([4, 3]), random([4, 3]), random([4, 3]).sigmoid()];
      assertClose(gatedContrastive(a, b, g, { reduction: 'none' }).mean(), gatedContrastive(a, b, g), { atol: 1e-10 });
    });
  });

  it('has right gradients, is finite, and bears closed gates', () => {
    scope(() => {
      gradcheck(
        (a, b, g) => gatedContrastive(a!, b!, g!.sigmoid(), { temperature: 0.5, gatePenalty: 1 }),
        [learning([3, 2]), learning([3, 2]), learning([3, 2])],
      );
      const x = learning([3, 2]);
      const loss = gatedContrastive(x, x, torch.zeros([3, 2], { dtype: 'float64' }));
      loss.backward();
      assertValue(loss, Math.log(3));
      assert.equal(x.grad!.isfinite().all().itemSync(), 1);
    });
    assertFinite(
      (temperature, a, b, g) => gatedContrastive(a!, b!, g!.sigmoid(), { temperature }),
      [
        [5, 3],
        [5, 3],
        [5, 3],
      ],
    );
    assertRefuses(
      () => gatedContrastive(random([2, 3]), random([2, 3]), random([3, 3])),
      /gates: expected shape \[2, 3\]/,
    );
  });
});

describe('ClassPairGate', () => {
  it('gives both orders of two classes one gate, and learns', () => {
    scope(() => {
      const gate = new ClassPairGate({ classes: 5, dimension: 3, hidden: 8 });
      const [one, other] = [ids([0, 1, 4]), ids([2, 1, 3])];
      const gates = gate.forward(one, other);
      assertClose(gates, gate.forward(other, one));
      const middle = gate.vectors.indexSelect(0, one).add(gate.vectors.indexSelect(0, other)).div(2);
      assertClose(gates, gate.network.forward(middle).sigmoid());
      gatedContrastive(random([3, 3], 'float32'), random([3, 3], 'float32'), gates).backward();
      for (const [name, parameter] of gate.namedParameters()) assert.notEqual(parameter.grad, null, name);
      assertRefuses(() => gate.forward(one, ids([0])), /second: expected shape \[3\]/);
    });
  });
});
