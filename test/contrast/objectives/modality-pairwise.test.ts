import assert from 'node:assert/strict';
import { generativeContrastiveAlignment, modalityPairwise } from '../../../src/contrast/objectives/modality-pairwise';
import { scope, torch, type Tensor } from '../../../src/torch';
import { assertClose } from '../../support/close';
import {
  assertExecutionsAgree,
  assertFinite,
  assertGradients,
  assertRefuses,
  assertValue,
  cosine,
  double,
  learning,
  mean,
  random,
  rowsOf,
  sumExp,
  total,
} from './plain';

const oneWay = (a: Tensor, b: Tensor, t: number): number[] =>
  rowsOf(a).map((row, i) => {
    const scores = rowsOf(b).map((key) => cosine(row, key) / t);
    return Math.log(sumExp(scores)) - scores[i]!;
  });
const both = (a: Tensor, b: Tensor, t: number): number => (mean(oneWay(a, b, t)) + mean(oneWay(b, a, t))) / 2;

describe('modalityPairwise', () => {
  it('is the sum of symmetric losses over pairs, weighted', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 13]) {
        const [text, audio, vision] = [random([count, 4]), random([count, 4]), random([count, 4])];
        const [x, y, z] = [both(text, audio, 0.3), both(text, vision, 0.3), both(audio, vision, 0.3)];
        assertValue(modalityPairwise({ text, audio, vision }, { temperature: 0.3 }), x + y + z);
        const weights = { 'text,audio': 2, 'audio,vision': 0 };
        assertValue(modalityPairwise({ text, audio, vision }, { temperature: 0.3, weights }), 2 * x + y);
        const each = modalityPairwise({ text, audio, vision }, { reduction: 'none' });
        assertClose(each.mean(), modalityPairwise({ text, audio, vision }), { atol: 1e-10 });
      }
    });
  });

  it('agrees between dense and tiled, has right gradients, and is finite', () => {
    scope(() => {
      const [a, b, c] = [learning([260, 3]), learning([260, 3]), learning([260, 3])];
      assertExecutionsAgree((execution) => modalityPairwise({ a, b, c }, { execution }), [a, b, c]);
      const temperature = double(0.4).requiresGrad_();
      assertGradients(
        (execution, x, y, z, t) => modalityPairwise({ x: x!, y: y!, z: z! }, { execution, temperature: t! }),
        [learning([3, 2]), learning([3, 2]), learning([3, 2]), temperature],
      );
    });
    assertFinite(
      (temperature, x, y) => modalityPairwise({ x: x!, y: y! }, { temperature }),
      [
        [6, 3],
        [6, 3],
      ],
    );
  });

  it('refuses what is no pair', () => {
    const [a, b] = [torch.ones([2, 3]), torch.ones([2, 3])];
    assertRefuses(() => modalityPairwise({ a }), /at least two modalities, found 1/);
    assertRefuses(() => modalityPairwise({ a, b }, { weights: { 'b,a': 1 } }), /'b,a' is no pair; there are a,b/);
    assertRefuses(() => modalityPairwise({ a, b: torch.ones([2, 4]) }), /modalityPairwise: b: expected shape \[2, 3\]/);
    assertRefuses(() => modalityPairwise({ a, b }, { temperature: -1 }), /temperature must be a number above 0/);
  });
});

const sigmoids = (a: Tensor, b: Tensor, t: number, bias: number): number =>
  mean(
    rowsOf(a).map((row, i) =>
      total(rowsOf(b).map((key, j) => Math.log1p(Math.exp((i === j ? -1 : 1) * (cosine(row, key) / t + bias))))),
    ),
  );

describe('generativeContrastiveAlignment', () => {
  it('is the sigmoid loss of both encoders, or the symmetric softmax', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 13]) {
        const [a, b] = [random([count, 4]), random([count, 4])];
        assertValue(generativeContrastiveAlignment(a, b), sigmoids(a, b, 0.1, -10));
        assertValue(
          generativeContrastiveAlignment(a, b, { temperature: 0.5, bias: double(-1) }),
          sigmoids(a, b, 0.5, -1),
        );
        assertValue(generativeContrastiveAlignment(a, b, { loss: 'softmax', temperature: 0.2 }), both(a, b, 0.2));
        assertValue(generativeContrastiveAlignment(a, b, { loss: 'softmax' }), both(a, b, 0.07));
      }
    });
  });

  it('agrees between dense and tiled, has right gradients, is finite, and freezes one encoder', () => {
    scope(() => {
      const [a, b] = [learning([140, 4]), learning([140, 4])];
      const frozen = 'none';
      for (const loss of ['sigmoid', 'softmax'] as const) {
        assertExecutionsAgree((execution) => generativeContrastiveAlignment(a, b, { execution, frozen, loss }), [a, b]);
        assertGradients(
          (execution, x, y) => generativeContrastiveAlignment(x!, y!, { execution, frozen, loss, temperature: 0.5 }),
          [learning([3, 2]), learning([3, 2])],
        );
      }
      generativeContrastiveAlignment(a, b, { frozen: 'generative' }).backward();
      assert.equal(a.grad, null);
      assert.notEqual(b.grad, null);
      b.grad = null;
      generativeContrastiveAlignment(a, b).backward();
      assert.notEqual(a.grad, null);
      assert.equal(b.grad, null);
    });
    assertFinite(
      (temperature, x, y) => generativeContrastiveAlignment(x!, y!, { temperature }),
      [
        [6, 3],
        [6, 3],
      ],
    );
    assertRefuses(() => generativeContrastiveAlignment(random([2, 3]), random([3, 3])), /contrastive: expected shape/);
    assertRefuses(
      () => generativeContrastiveAlignment(random([2, 3]), random([2, 3]), { loss: 'softmax', bias: 1 }),
      /a softmax has no bias/,
    );
  });
});
