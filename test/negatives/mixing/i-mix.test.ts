import assert from 'node:assert/strict';
import { iMix, mixVirtual } from '../../../src/negatives/mixing';
import { Generator, scope, torch, type Tensor } from '../../../src/torch';
import { assertClose, numbers } from '../../support/close';
import {
  assertExecutionsAgree,
  assertFinite,
  assertGradients,
  assertRefuses,
  cosine,
  ids,
  learning,
  random,
  rowsOf,
  sumExp,
} from '../../contrast/objectives/plain';

const share = (values: number[]): Tensor => torch.tensor(values, { dtype: 'float64' });

describe('iMix', () => {
  it('equals a loop, with a queue and without', () => {
    scope(() => {
      for (const count of [1, 2, 3, 5]) {
        const [q, k, queue] = [random([count, 4]), random([count, 4]), random([6, 4])];
        const partners = Array.from({ length: count }, (_, i) => (i * 2 + 1) % count);
        const lambda = partners.map((_, i) => 0.5 + 0.5 * Math.sin(i + 1) ** 2);
        for (const negatives of [undefined, queue]) {
          const expected = rowsOf(q).map((row, i) => {
            const scores = [...rowsOf(k), ...(negatives ? rowsOf(negatives) : [])].map((x) => cosine(row, x) / 0.2);
            const ce = (at: number): number => Math.log(sumExp(scores)) - scores[at]!;
            return lambda[i]! * ce(i) + (1 - lambda[i]!) * ce(partners[i]!);
          });
          const options = { partners: ids(partners), lambda: share(lambda), queue: negatives };
          const found = iMix(q, k, { ...options, reduction: 'none' });
          assertClose(found, share(expected), { atol: 1e-10, rtol: 0 });
        }
      }
    });
  });

  it('has right gradients in both executions', () => {
    const options = { partners: ids([2, 0, 1]), lambda: share([0.5, 0.8, 1]), queue: random([5, 3]) };
    const inputs = [learning([3, 3]), learning([3, 3])];
    assertGradients((execution, q, k) => iMix(q!, k!, { ...options, execution }), inputs);
    assertExecutionsAgree((execution) => iMix(inputs[0]!, inputs[1]!, { ...options, execution }), inputs);
    const narrow = { partners: options.partners, lambda: options.lambda.to('float32') };
    assertFinite(
      (temperature, q, k) => iMix(q!, k!, { ...narrow, temperature }),
      [
        [3, 3],
        [3, 3],
      ],
    );
  });

  it('refuses what does not fit', () => {
    const [q, partners, lambda] = [random([3, 3]), ids([2, 0, 1]), share([0.5, 0.8, 1])];
    assertRefuses(() => iMix(q, random([2, 3]), { partners, lambda }), /keys: expected shape \[3, 3\]/);
    assertRefuses(() => iMix(q, q, { partners: ids([1]), lambda }), /partners: expected shape \[3\]/);
    assertRefuses(() => iMix(q, q, { partners, lambda: share([1]) }), /lambda: expected floating-point \[3\]/);
  });
});

describe('mixVirtual', () => {
  it('mixes each input with one of a random order, its own share the larger', () => {
    scope(() => {
      const x = random([9, 2, 3]);
      const { inputs, partners, lambda } = mixVirtual(x, { generator: new Generator({ seed: 3 }) });
      assert.equal(new Set(numbers(partners)).size, 9);
      const rows = rowsOf(x.flatten(1));
      numbers(lambda).forEach((own, i) => {
        assert.ok(own >= 0.5 && own <= 1);
        const other = rows[numbers(partners)[i]!]!;
        const expected = rows[i]!.map((v, d) => own * v + (1 - own) * other[d]!);
        assertClose(inputs.select(0, i).flatten(), share(expected), { atol: 1e-12, rtol: 0 });
      });
    });
  });

  it('pastes one rectangle for the batch and takes its share from what is left', () => {
    scope(() => {
      const x = random([5, 1, 6, 6]);
      const { inputs, partners, lambda } = mixVirtual(x, { how: 'cutmix', generator: new Generator({ seed: 4 }) });
      const rows = rowsOf(x.flatten(1));
      rowsOf(inputs.flatten(1)).forEach((row, i) => {
        const other = numbers(partners)[i]!;
        if (other === i) return;
        const kept = row.filter((v, d) => v === rows[i]![d]).length;
        assert.ok(row.every((v, d) => v === rows[i]![d] || v === rows[other]![d]));
        assert.ok(Math.abs(kept / 36 - numbers(lambda)[i]!) < 1e-12);
      });
    });
  });

  it('repeats from its generator and refuses what does not fit', () => {
    scope(() => {
      const x = random([4, 3]);
      const draw = (): number[] => numbers(mixVirtual(x, { generator: new Generator({ seed: 8 }), alpha: 2 }).inputs);
      assert.deepEqual(draw(), draw());
      const generator = new Generator({ seed: 1 });
      assertRefuses(() => mixVirtual(x, { generator, how: 'cutmix' }).inputs, /expected floating-point \[N, C, H, W\]/);
      assertRefuses(() => mixVirtual(x, { generator, alpha: 0 }).inputs, /alpha must be a number at least 0.05/);
    });
  });
});
