import assert from 'node:assert/strict';
import { ClassPairGate, gatedContrastive, type GatedClasses } from '../../../src/contrast/objectives/hydra';
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

interface Plain {
  anchors: number[];
  partners: number[];
  candidates: number[];
}

/** What each anchor's positives cost, and how many positives there are in all. */
function byLoop(a: Tensor, b: Tensor, gates: Tensor, classes: Plain, t: number): [number[], number] {
  let pairs = 0;
  const losses = rowsOf(a).map((row, i) => {
    const gated = (z: number[]): number[] => z.map((value, d) => value * rowsOf(gates)[i]![d]!);
    const scores = rowsOf(b).map((key) => cosine(gated(row), gated(key)) / t);
    const of = (which: (label: number) => boolean): number[] => scores.filter((_, j) => which(classes.candidates[j]!));
    const positives = of((label) => label === classes.partners[i]);
    const negatives = of((label) => label !== classes.partners[i] && label !== classes.anchors[i]);
    pairs += positives.length;
    return positives.reduce((sum, score) => sum + Math.log(Math.exp(score) + sumExp(negatives)) - score, 0);
  });
  return [losses, pairs];
}

const classesOf = (anchors: number, candidates: number): Plain => ({
  anchors: Array.from({ length: anchors }, (_, i) => i % 4),
  partners: Array.from({ length: anchors }, (_, i) => (i * 3 + 1) % 5),
  candidates: Array.from({ length: candidates }, (_, i) => (i * 7) % 4),
});
const tensorsOf = ({ anchors, partners, candidates }: Plain): GatedClasses => ({
  anchors: ids(anchors),
  partners: ids(partners),
  candidates: ids(candidates),
});

describe('gatedContrastive', () => {
  it("gives each positive a softmax in the subspace of its anchor's gate", () => {
    scope(() => {
      for (const [count, others] of [
        [1, 1],
        [2, 3],
        [3, 2],
        [5, 5],
        [13, 17],
      ] as const) {
        const [a, b, g] = [random([count, 4]), random([others, 4]), random([count, 4]).sigmoid()];
        const classes = classesOf(count, others);
        const [losses, pairs] = byLoop(a, b, g, classes, 0.3);
        const expected = losses.reduce((x, y) => x + y) / Math.max(1, pairs);
        assertValue(gatedContrastive(a, b, g, tensorsOf(classes), { temperature: 0.3 }), expected);
        const penalties = rowsOf(g).map((row) => mean(row.map((x) => x * (1 - x))));
        const options = { temperature: double(0.3), gatePenalty: 2 };
        assertValue(gatedContrastive(a, b, g, tensorsOf(classes), options), expected + 2 * mean(penalties));
        const each = gatedContrastive(a, b, g, tensorsOf(classes), { ...options, reduction: 'none' });
        losses.forEach((loss, i) => {
          assertValue(each.at(i), loss + 2 * penalties[i]!);
        });
        assertClose(each.sum(), gatedContrastive(a, b, g, tensorsOf(classes), { ...options, reduction: 'sum' }), {
          atol: 1e-10,
        });
      }
    });
  });

  it('has right gradients, is finite, and bears closed gates', () => {
    const classes = tensorsOf(classesOf(3, 4));
    scope(() => {
      gradcheck(
        (a, b, g) => gatedContrastive(a!, b!, g!.sigmoid(), classes, { temperature: 0.5, gatePenalty: 1 }),
        [learning([3, 2]), learning([4, 2]), learning([3, 2])],
      );
      const x = learning([2, 2]);
      const two = { anchors: ids([0, 1]), partners: ids([2, 2]), candidates: ids([2, 3]) };
      const loss = gatedContrastive(x, x, torch.zeros([2, 2], { dtype: 'float64' }), two);
      loss.backward();
      assertValue(loss, Math.log(2));
      assert.equal(x.grad!.isfinite().all().itemSync(), 1);
    });
    assertFinite(
      (temperature, a, b, g) => gatedContrastive(a!, b!, g!.sigmoid(), tensorsOf(classesOf(5, 6)), { temperature }),
      [
        [5, 3],
        [6, 3],
        [5, 3],
      ],
    );
    assertRefuses(
      () => gatedContrastive(random([3, 3]), random([4, 3]), random([4, 3]), classes),
      /gates: expected shape \[3, 3\]/,
    );
    assertRefuses(
      () => gatedContrastive(random([3, 3]), random([5, 3]), random([3, 3]), classes),
      /classes.candidates: expected shape \[5\]/,
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
      const classes = { anchors: one, partners: other, candidates: ids([2, 1, 4]) };
      gatedContrastive(random([3, 3], 'float32'), random([3, 3], 'float32'), gates, classes).backward();
      for (const [name, parameter] of gate.namedParameters()) assert.notEqual(parameter.grad, null, name);
      assertRefuses(() => gate.forward(one, ids([0])), /second: expected shape \[3\]/);
    });
  });
});
