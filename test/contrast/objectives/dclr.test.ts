import assert from 'node:assert/strict';
import { dclr, noiseNegatives } from '../../../src/contrast/objectives/dclr';
import { Generator, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose, numbers } from '../../support/close';
import {
  assertExecutionsAgree,
  assertFinite,
  assertGradients,
  assertRefuses,
  assertValue,
  cosine,
  learning,
  mean,
  random,
  rowsOf,
  sumExp,
} from './plain';

const expected = (
  a: Tensor,
  b: Tensor,
  t: number,
  guides?: [Tensor, Tensor],
  threshold = 0.9,
  noise?: Tensor,
): number => {
  const [x, y, n] = [rowsOf(a), rowsOf(b), noise === undefined ? [] : rowsOf(noise)];
  const [g, h] = guides === undefined ? [[], []] : guides.map(rowsOf);
  return mean(
    x.map((row, i) => {
      const counts = y.map((_, j) => j === i || guides === undefined || cosine(g![i]!, h![j]!) <= threshold);
      const scores = [...y.filter((_, j) => counts[j]), ...n].map((key) => cosine(row, key) / t);
      return Math.log(sumExp(scores)) - cosine(row, y[i]!) / t;
    }),
  );
};

describe('dclr', () => {
  it('leaves out what the guide finds alike, and takes noise in', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5, 15]) {
        const [a, b, noise] = [random([count, 4]), random([count, 4]), random([6, 4])];
        const [first, second] = [random([count, 2]), random([count, 2])];
        assertValue(dclr(a, b, { temperature: 0.3 }), expected(a, b, 0.3));
        assertValue(dclr(a, b, { temperature: 0.3, noise }), expected(a, b, 0.3, undefined, 1, noise));
        const options = { temperature: 0.3, noise, guides: { first, second }, threshold: 0.2 };
        assertValue(dclr(a, b, options), expected(a, b, 0.3, [first, second], 0.2, noise));
      }
      // All negatives are false ones.
      const same = torch.ones([4, 3]);
      assertValue(dclr(random([4, 3]), random([4, 3]), { guides: { first: same, second: same } }), 0);
    });
  });

  it('agrees between dense and tiled, has right gradients, and is finite', () => {
    scope(() => {
      const [a, b] = [learning([130, 4]), learning([130, 4])];
      const guides = { first: random([130, 3]), second: random([130, 3]) };
      const noise = random([260, 4]);
      assertExecutionsAgree((execution) => dclr(a, b, { guides, threshold: 0.5, noise, execution }), [a, b]);
      const small = { first: random([4, 3]), second: random([4, 3]) };
      assertGradients(
        (execution, x, y) => dclr(x!, y!, { guides: small, threshold: 0.3, execution, temperature: 0.5 }),
        [learning([4, 2]), learning([4, 2])],
      );
    });
    assertFinite(
      (temperature, x, y) => dclr(x!, y!, { temperature, noise: noiseNegatives(x!) }),
      [
        [6, 3],
        [6, 3],
      ],
    );
  });

  it('refuses what does not fit', () => {
    const pair = (): [Tensor, Tensor] => [random([3, 2]), random([3, 2])];
    assertRefuses(() => dclr(...pair(), { noise: random([3, 4]) }), /noise: expected shape \[N, 2\]/);
    const guide = random([2, 2]);
    assertRefuses(
      () => dclr(...pair(), { guides: { first: guide, second: guide } }),
      /guides: expected 3 rows, found 2/,
    );
    assertRefuses(() => dclr(...pair(), { threshold: 2 }), /threshold must be a number at least -1 and at most 1/);
  });
});

describe('noiseNegatives', () => {
  it('climbs towards the embeddings, a step of the given length at a time', () => {
    scope(() => {
      const anchors = random([5, 3]);
      const options = { count: 4, steps: 0, stepSize: 0.1, temperature: 0.5 };
      const make = (steps: number): Tensor =>
        noiseNegatives(anchors, { ...options, steps, generator: new Generator({ seed: 3 }) });
      const [start, moved] = [make(0), make(1)];
      const lengths = numbers(moved.sub(start).square().sum([1]).sqrt());
      lengths.forEach((length) => assert.ok(Math.abs(length - 0.1) < 1e-9));
      const crowd = (noise: Tensor): number =>
        mean(rowsOf(anchors).map((row) => Math.log(sumExp(rowsOf(noise).map((n) => cosine(row, n) / 0.5)))));
      assert.ok(crowd(moved) > crowd(start));
      // The first step goes along the slope, by differences.
      const slope = numbers(start).map((_, k) => {
        const bump = torch.zeros([12], { dtype: 'float64' });
        bump.at(k).fill_(1e-6);
        const at = (sign: number): number => crowd(start.add(bump.reshape([4, 3]).mul(sign)));
        return (at(1) - at(-1)) / 2e-6;
      });
      const expectedStep = torch.tensor(slope, { dtype: 'float64' }).reshape([4, 3]);
      const unit = expectedStep.div(expectedStep.square().sum([1], true).sqrt());
      assertClose(moved.sub(start).div(0.1), unit, { atol: 1e-4 });
      assert.equal(make(4).requiresGrad, false);
      assertRefuses(() => noiseNegatives(anchors, { count: 0 }), /count must be an integer of at least 1/);
    });
  });
});
