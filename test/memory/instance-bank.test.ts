import assert from 'node:assert/strict';
import { contrast } from '../../src/contrast';
import { InstanceBank } from '../../src/memory';
import { Generator, grad, gradcheck, scope, torch, type Tensor } from '../../src/torch';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { assertNear, assertRefuses, copied, dot, everything, ints, mean, random, rowsOf, unit, value } from './plain';

const T = 0.5;
const N = 11;

const make = (options: object = {}) =>
  new InstanceBank({
    samples: N,
    dimension: 3,
    noiseSamples: 6,
    temperature: T,
    seed: 3,
    dtype: 'float64',
    device,
    ...options,
  });

/** The rows of noise that the bank will draw next. */
function nextNoise(bank: InstanceBank, shape: number[]): number[][] {
  const generator = new Generator();
  generator.setState(bank.stateDict().tensors.get('generator')!);
  return rowsOf(torch.randint(N, shape, { generator, dtype: 'int64' }));
}

function byLoop(x: Tensor, ids: number[], noise: number[][], bank: number[][], z: number, lambda: number): number[] {
  const p = (f: number[], j: number) => Math.exp(dot(bank[j]!, f) / T) / z;
  return rowsOf(x).map((row, i) => {
    const f = unit(row);
    const m = noise[i]!.length;
    const own = p(f, ids[i]!);
    const nce =
      -Math.log(own / (own + m / N)) - noise[i]!.reduce((sum, j) => sum + Math.log(m / N / (p(f, j) + m / N)), 0);
    return nce + lambda * f.reduce((sum, v, d) => sum + (v - bank[ids[i]!]![d]!) ** 2, 0);
  });
}

describe('InstanceBank', () => {
  it('equals a loop, and estimates Z from its first batch alone', () => {
    for (const [ids, shared, proximal] of [
      [[4], false, 0],
      [[0, 10], true, 0],
      [[3, 3, 7], false, 0.7],
      [[5, 1, 2, 9, 8], true, 2],
    ] as const) {
      const bank = make({ sharedNoise: shared, proximal });
      assert.equal(bank.normalizer, null);
      const rows = rowsOf(bank.entries());
      const draw = () => {
        const drawn = nextNoise(bank, [shared ? 1 : ids.length, 6]);
        return ids.map((_, i) => drawn[shared ? 0 : i]!);
      };
      let noise = draw();
      const x = random([ids.length, 3]);
      const first = bank.loss(x, ints(ids), { reduction: 'none' });
      // Z: n times the mean over every score that was taken.
      const scores = rowsOf(x).flatMap((row, i) =>
        [ids[i]!, ...noise[i]!].map((j) => Math.exp(dot(rows[j]!, unit(row)) / T)),
      );
      const z = N * mean(scores);
      assertNear([bank.normalizer!], [z]);
      assertNear(numbers(first), byLoop(x, [...ids], noise, rows, z, proximal));
      noise = draw();
      const y = random([ids.length, 3]);
      assertNear([value(bank.loss(y, ints(ids)))], [mean(byLoop(y, [...ids], noise, rows, z, proximal))]);
      assertNear([bank.normalizer!], [z]);
    }
  });

  it('has the gradients of finite differences, for embeddings alone', () => {
    const bank = make({ proximal: 0.5, normalizer: 20 });
    const ids = ints([1, 6]);
    const state = copied(bank.stateDict());
    gradcheck((x) => (bank.loadStateDict(state), bank.loss(x, ids)), [random([2, 3]).requiresGrad_()]);
    assert.ok(!bank.entries().requiresGrad);
    assertNear([bank.normalizer!], [20], 1e-9);
  });

  it('moves the entries of a batch, and leaves a backward pass as it was', () => {
    for (const sharedNoise of [false, true]) {
      const bank = make({ momentum: 0.3, sharedNoise });
      const before = rowsOf(bank.entries());
      const x = random([3, 3]).requiresGrad_();
      const ids = [7, 0, 4];
      const state = copied(bank.stateDict());
      const expected = grad(bank.loss(x, ints(ids)), [x])[0]!;
      bank.loadStateDict(state);
      const loss = bank.loss(x, ints(ids));
      bank.update(x, ints(ids));
      assertClose(grad(loss, [x])[0]!, expected, { atol: 0, rtol: 0 });
      const after = before.map((row, i) => {
        const at = ids.indexOf(i);
        if (at < 0) return row;
        const f = unit(rowsOf(x.detach())[at]!);
        return unit(row.map((v, d) => 0.3 * v + 0.7 * f[d]!));
      });
      assertNear(numbers(bank.entries()), after.flat());
    }
  });

  it('starts with directions, and serves the whole softmax', () => {
    scope(() => {
      const bank = make();
      for (const row of rowsOf(bank.entries())) assertNear([dot(row, row)], [1]);
      const x = random([2, 3]);
      const { embeddings, labels } = bank.candidates();
      const loss = contrast({ anchors: x, labels: ints([3, 8]), candidates: { embeddings, labels }, temperature: T });
      const rows = rowsOf(bank.entries());
      const expected = rowsOf(x).map((row, i) => {
        const logits = rows.map((v) => dot(v, unit(row)) / T);
        return Math.log(logits.reduce((sum, s) => sum + Math.exp(s), 0)) - logits[[3, 8][i]!]!;
      });
      assertNear([value(loss)], [mean(expected)]);
    });
  });

  it('goes on exactly from its state, noise and Z included', () => {
    const [first, second] = [make(), make({ seed: 99 })];
    const step = (bank: InstanceBank, x: Tensor) => {
      const loss = bank.loss(x, ints([2, 3, 5]));
      bank.update(x, ints([2, 3, 5]));
      return value(loss);
    };
    const batches = [random([3, 3]), random([3, 3]), random([3, 3])];
    step(first, batches[0]!);
    second.loadStateDict(copied(first.stateDict()));
    for (const batch of batches) assert.equal(step(second, batch), step(first, batch));
    assert.deepEqual(everything(second.stateDict()), everything(first.stateDict()));
  });

  it('refuses what does not fit, before anything changes', () => {
    const bank = make();
    const before = everything(copied(bank.stateDict()));
    const x = random([2, 3]);
    assertRefuses(() => bank.loss(x, ints([1, 11])), /ids must be from 0 to 10, found 11/);
    assertRefuses(() => bank.loss(x, ints([-1, 1])), /from 0 to 10, found -1/);
    assertRefuses(() => bank.loss(x, ints([1])), /ids of shape \[2\], found \[1\]/);
    assertRefuses(() => bank.loss(random([2, 4]), ints([1, 2])), /shape \[N, 3\], found \[2, 4\]/);
    assertRefuses(() => bank.loss(random([0, 3]), ints([])), /there are no embeddings/);
    assertRefuses(() => bank.update(x, ints([4, 4])), /ids must be distinct/);
    assertRefuses(() => make({ momentum: 2 }), /momentum must be a number from 0 to 1/);
    assertRefuses(() => make({ temperature: 0 }), /temperature must be a number above 0/);
    assertRefuses(() => make({ dtype: 'float16' }), /dtype must be float32 or float64/);
    assertRefuses(() => make({ normalizer: -1 }), /normalizer must be a number above 0/);
    const { tensors, values } = new InstanceBank({ samples: 4, dimension: 3, dtype: 'float64' }).stateDict();
    assertRefuses(() => bank.loadStateDict({ tensors, values }), /must hold 'bank' of shape \[11, 3\], found \[4, 3\]/);
    assert.deepEqual(everything(bank.stateDict()), before);
  });
});
