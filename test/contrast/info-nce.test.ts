import assert from 'node:assert/strict';
import { autocast, torch, type Tensor } from '../../src/torch';
import { InfoNCE } from '../../src/contrast';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';
import { golden } from '../support/golden';
import { gradcheck } from '../../src/torch';

const random = (rows: number, columns: number): Tensor => torch.randn([rows, columns], { dtype: 'float64', device });

/** The definition, as a loop over plain numbers. */
function byLoop(query: number[][], positive: number[][], negatives: number[][], temperature: number, inBatch: boolean) {
  const unit = (x: number[]) => x.map((value) => value / Math.hypot(...x));
  const similarity = (a: number[], b: number[]) =>
    unit(a).reduce((sum, value, index) => sum + value * unit(b)[index]!, 0) / temperature;
  return query.map((q, i) => {
    const others = inBatch ? positive.filter((_, j) => j !== i) : [];
    const scores = [...others, ...negatives].map((key) => similarity(q, key));
    const own = similarity(q, positive[i]!);
    const largest = Math.max(own, ...scores);
    const total = [own, ...scores].reduce((sum, score) => sum + Math.exp(score - largest), 0);
    return Math.log(total) + largest - own;
  });
}

describe('InfoNCE', () => {
  const set = golden('info_nce');

  for (const temperature of [0.07, 0.5]) {
    for (const normalize of [true, false]) {
      for (const candidates of ['queue', 'batch', 'both']) {
        const name = `${temperature}.${normalize}.${candidates}`;
        const everyWay = ['dense', 'tiled'] as const;
        for (const execution of everyWay)
          it(`equals PyTorch's cross-entropy, values and gradients: ${name}, ${execution}`, () => {
            const [query, positive, negatives] = ['query', 'positive', 'negatives'].map((key) =>
              set.tensors[key]!.clone().requiresGrad_(),
            ) as [Tensor, Tensor, Tensor];
            const inBatchNegatives = candidates !== 'queue';
            const given = candidates === 'batch' ? null : negatives;
            const options = { temperature, normalize, inBatchNegatives, execution };
            const losses = new InfoNCE({ ...options, reduction: 'none' }).forward(query, positive, given);
            assertClose(losses, set.tensors[`${name}.losses`]!, { atol: 1e-12 });
            new InfoNCE(options).forward(query, positive, given).backward();
            for (const [key, tensor] of Object.entries({ query, positive, negatives })) {
              const expected = set.tensors[`${name}.${key}_gradient`];
              if (expected === undefined) assert.equal(tensor.grad, null);
              else assertClose(tensor.grad!, expected, { atol: 1e-12 }, key);
            }
          });
      }
    }
  }

  it('equals a loop, for odd sizes and extreme temperatures', () => {
    for (const [n, k, d] of [
      [1, 1, 1],
      [2, 3, 2],
      [3, 1, 7],
      [5, 129, 3],
    ] as const) {
      // prettier-ignore
      for (const temperature of [0.005, 0.1, 10]) {
        for (const inBatchNegatives of [false, true]) {
          const [query, positive, negatives] = [random(n, d), random(n, d), random(k, d)];
          const objective = new InfoNCE({ temperature, inBatchNegatives, reduction: 'none' });
          const rows = [query, positive, negatives].map((x) => x.toArraySync() as number[][]) as [number[][], number[][], number[][]]; // prettier-ignore
          const expected = byLoop(...rows, temperature, inBatchNegatives);
          const found = objective.forward(query, positive, negatives);
          assertClose(found, torch.tensor(expected, { dtype: 'float64' }), { atol: 1e-10, rtol: 1e-10 });
        }
      }
    }
  });

  it('passes the finite-difference check', () => {
    for (const inBatchNegatives of [false, true]) {
      for (const temperature of [0.05, 1]) {
        const inputs = [random(3, 4), random(3, 4), random(5, 4)].map((x) => x.requiresGrad_());
        const objective = new InfoNCE({ temperature, inBatchNegatives });
        gradcheck((query, positive, negatives) => objective.forward(query!, positive!, negatives!), inputs);
      }
    }
  });

  it('is log(1 + K) when all keys are equal', () => {
    const x = torch.ones([4, 3], { device });
    const loss = new InfoNCE().forward(x, x, torch.ones([15, 3], { device }));
    assert.ok(Math.abs(loss.itemSync() - Math.log(16)) < 1e-6);
  });

  it('keeps tiny losses and their gradients in float32, and stays finite at extreme scores', () => {
    const query = torch.tensor([[1, 0]], { device }).requiresGrad_();
    const positive = torch.tensor([[1, 0]], { device });
    const negative = torch.tensor([[-1, 0]], { device });
    // exp(-40): far below what 1 + x can hold in float32.
    const loss = new InfoNCE({ temperature: 0.05, normalize: false }).forward(query, positive, negative);
    assert.ok(Math.abs(loss.itemSync() / Math.exp(-40) - 1) < 1e-4, `${loss.itemSync()}`);
    loss.backward();
    assert.ok(Math.abs(numbers(query.grad!)[0]! / (-40 * Math.exp(-40)) - 1) < 1e-4);
    const worst = new InfoNCE({ temperature: 0.001 }).forward(query, negative, positive);
    assert.ok(Math.abs(worst.itemSync() - 2000) < 1e-2);
  });

  it('computes in float32 under autocast and for bfloat16 inputs', () => {
    const [query, positive, negatives] = [random(8, 16), random(8, 16), random(64, 16)].map((x) => x.to('float32')) as [Tensor, Tensor, Tensor]; // prettier-ignore
    const objective = new InfoNCE({ temperature: 0.05 });
    const expected = objective.forward(query, positive, negatives);
    const found = autocast({ device: device.startsWith('cuda') ? 'cuda' : 'cpu' }, () =>
      objective.forward(query, positive, negatives),
    );
    assert.equal(found.dtype, 'float32');
    assertClose(found, expected, { atol: 0, rtol: 0 });
    const short = [query, positive, negatives].map((x) => x.to('bfloat16')) as [Tensor, Tensor, Tensor];
    const wide = short.map((x) => x.to('float32')) as [Tensor, Tensor, Tensor];
    assertClose(objective.forward(...short), objective.forward(...wide), { atol: 0, rtol: 0 });
  });

  it('gives its parts', () => {
    const query = torch.tensor([[1, 0], [0, 1]], { device }); // prettier-ignore
    const objective = new InfoNCE({ temperature: 0.5, inBatchNegatives: true });
    const { positives, negatives } = objective.parts(query, query, torch.tensor([[1, 1]], { device }));
    assertClose(positives, torch.tensor([2, 2]));
    assertClose(negatives.narrow(1, 2, 1), torch.full([2, 1], Math.SQRT2));
    assert.deepEqual(numbers(negatives.narrow(1, 0, 2)), [-Infinity, 0, 0, -Infinity]);
  });

  it('refuses input that does not fit', () => {
    const objective = new InfoNCE();
    const [a, b, queue] = [random(3, 4), random(3, 4), random(5, 4)];
    assert.throws(() => objective.forward(a, b), /there are no negatives; give some, or set inBatchNegatives/);
    assert.throws(() => objective.forward(a, random(2, 4), queue), /positive: expected shape \[3, 4\], found \[2, 4\]/);
    assert.throws(() => objective.forward(a, b, random(5, 3)), /negatives: expected shape \[N, 4\], found \[5, 3\]/);
    assert.throws(() => objective.forward(a.view([12]), b, queue), /query: expected shape \[N, D\], found \[12\]/);
    assert.throws(
      () => objective.forward(a.to('int64'), b, queue),
      /query: expected a floating-point dtype, found int64/,
    );
    assert.throws(() => objective.forward(a.narrow(0, 0, 0), b, queue), /query: there are no embeddings/);
    assert.throws(() => objective.forward(a, b, queue.to('meta')), /negatives on meta; move one/);
    assert.throws(
      () => new InfoNCE({ inBatchNegatives: true }).forward(random(1, 4), random(1, 4)),
      /a batch of one sample/,
    );
    for (const temperature of [0, -1, NaN, Infinity]) {
      assert.throws(() => new InfoNCE({ temperature }), /temperature must be a positive number/);
    }
  });
});
