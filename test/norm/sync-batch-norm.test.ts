import assert from 'node:assert/strict';
import { grad, gradcheck, torch, type Tensor } from '../../src/torch';
import { BatchNorm1d } from '../../src/norm/batch-norm1d';
import { BatchNorm2d } from '../../src/norm/batch-norm2d';
import { SyncBatchNorm, joinStatistics, type StatisticsExchange } from '../../src/norm/sync-batch-norm';
import { assertClose, numbers } from '../support/close';
import { device } from '../support/device';

const double = { device, dtype: 'float64' } as const;
const exact = { atol: 1e-12, rtol: 1e-11 };

/**
 * An exchange for parts that run one after the other, in rounds: what all parts gave is known in the next round. The first finds
 * the statistics, the second the sums of the gradients, the third has both.
 */
class Rounds {
  readonly #rows: number[][] = [];
  readonly #sums: number[][] = [];
  gathers = 0;
  reduces = 0;
  #round = -1;

  next(): void {
    this.#round++;
  }

  of(part: number): StatisticsExchange {
    return {
      allGather: (row) => {
        this.gathers++;
        this.#rows[part] = numbers(row);
        // A part on its own may be too small, so it is given company.
        const company = numbers(row).map((_, index) => (index === 0 ? 9 : 1));
        return torch.tensor(this.#round === 0 ? [numbers(row), company] : this.#rows, double);
      },
      allReduce: (values) => {
        this.reduces++;
        this.#sums[part] = numbers(values);
        return this.#round < 2 ? values : torch.tensor(this.#sums, double).sum([0]);
      },
    };
  }
}

interface Made {
  output: Tensor;
  input: Tensor;
  layer: SyncBatchNorm;
}

/** What each part makes once all parts know of one another. */
function runParts(
  parts: readonly Tensor[],
  gradients: readonly Tensor[],
  make: (exchange: StatisticsExchange) => SyncBatchNorm,
): Made[] {
  const rounds = new Rounds();
  let made: Made[] = [];
  for (let round = 0; round < 3; round++) {
    rounds.next();
    made = parts.map((part, index) => {
      const layer = make(rounds.of(index));
      const input = part.clone().requiresGrad_();
      const output = layer.forward(input);
      output.backward(gradients[index]!);
      return { output: output.detach(), input, layer };
    });
  }
  return made;
}

function sum(tensors: readonly Tensor[]): Tensor {
  return torch.stack([...tensors]).sum([0]);
}

describe('joinStatistics', () => {
  it('equals a two-pass calculation for a mean that is large beside the deviation, and parts of every size', () => {
    const x = torch.randn([103, 3], double).mul(0.1).add(1e4);
    const parts = x.splitWithSizes([1, 60, 0, 42]);
    const rows = parts.map((part) => {
      const count = part.sizeOf(0);
      if (count === 0) return torch.zeros([7], double);
      const mean = part.mean([0]);
      return torch.cat([torch.full([1], count, double), mean, part.sub(mean).square().sum([0])]);
    });
    const { count, mean, m2 } = joinStatistics(torch.stack(rows));
    // Loops over differences from 10,000, which are exact.
    const values = numbers(x);
    for (let channel = 0; channel < 3; channel++) {
      const column = values.filter((_, index) => index % 3 === channel).map((value) => value - 1e4);
      const centre = column.reduce((a, b) => a + b) / 103;
      const squares = column.reduce((a, b) => a + (b - centre) ** 2, 0);
      assert.ok(Math.abs(numbers(mean)[channel]! - 1e4 - centre) < 1e-10);
      assert.ok(Math.abs(numbers(m2)[channel]! / squares - 1) < 1e-9, `${numbers(m2)[channel]} ${squares}`);
    }
    assert.equal(count.itemSync(), 103);
  });

  it('gives zeros for nothing', () => {
    const { count, mean, m2 } = joinStatistics(torch.zeros([2, 5], double));
    assert.deepEqual([count, mean, m2].flatMap(numbers), [0, 0, 0, 0, 0]);
  });
});

describe('SyncBatchNorm', () => {
  const shapes: Record<string, [number[], number[]]> = {
    'two unequal parts': [
      [7, 3, 2, 5],
      [3, 4],
    ],
    'an empty part': [
      [5, 3, 2, 3],
      [0, 5],
    ],
    'a part of one value': [
      [4, 3, 1, 1],
      [1, 3],
    ],
    'three parts': [
      [9, 3, 3, 3],
      [2, 1, 6],
    ],
  };
  for (const [name, [shape, sizes]] of Object.entries(shapes)) {
    it(`equals batch normalisation of the joined batch: ${name}`, () => {
      const x = torch.randn(shape, double).mul(3).add(2);
      const gradient = torch.randn(shape, double);
      const options = { features: 3, momentum: 0.3, eps: 1e-3, ...double };
      const fill = <L extends BatchNorm2d | SyncBatchNorm>(layer: L): L => {
        layer.weight!.detach().copy_(torch.tensor([0.5, -1.5, 2], double));
        layer.bias!.detach().copy_(torch.tensor([1, 0, -2], double));
        layer.runningMean!.fill_(0.7);
        return layer;
      };
      const whole = fill(new BatchNorm2d(options));
      const input = x.clone().requiresGrad_();
      const output = whole.forward(input);
      output.backward(gradient);

      const made = runParts(x.splitWithSizes(sizes), gradient.splitWithSizes(sizes), (exchange) =>
        fill(new SyncBatchNorm({ ...options, exchange })),
      );
      assertClose(torch.cat(made.map((part) => part.output)), output, exact, 'output');
      assertClose(torch.cat(made.map((part) => part.input.grad!)), input.grad!, exact, 'gradient of the input');
      assertClose(sum(made.map((part) => part.layer.weight!.grad!)), whole.weight!.grad!, exact, 'gradient of weight');
      assertClose(sum(made.map((part) => part.layer.bias!.grad!)), whole.bias!.grad!, exact, 'gradient of bias');
      for (const { layer } of made) {
        assertClose(layer.runningMean!, whole.runningMean!, exact, 'running mean');
        assertClose(layer.runningVar!, whole.runningVar!, exact, 'running variance');
        assert.deepEqual(numbers(layer.numBatchesTracked!), [1]);
      }
    });
  }

  it('does not cancel where the mean is large, and works without parameters or running statistics', () => {
    const x = torch.randn([64, 2], double).mul(0.1).add(1e4);
    const gradient = torch.randn([64, 2], double);
    const options = { features: 2, eps: 0, affine: false, trackRunningStats: false, ...double };
    const input = x.clone().requiresGrad_();
    const output = new BatchNorm1d(options).forward(input);
    output.backward(gradient);
    const made = runParts(x.splitWithSizes([20, 44]), gradient.splitWithSizes([20, 44]), (exchange) =>
      new SyncBatchNorm({ ...options, exchange }).eval(),
    );
    // The means of the parts differ in their last digits, which are 1e-12 of 10,000, from that of the whole.
    const tolerance = { atol: 1e-9, rtol: 1e-9 };
    assertClose(torch.cat(made.map((part) => part.output)), output, tolerance, 'output');
    assertClose(torch.cat(made.map((part) => part.input.grad!)), input.grad!, tolerance, 'gradient');
  });

  it('passes the finite-difference check when it exchanges with itself', () => {
    const alone: StatisticsExchange = { allGather: (row) => row.unsqueeze(0), allReduce: (values) => values };
    const layer = new SyncBatchNorm({ features: 2, exchange: alone, ...double });
    const x = torch.randn([3, 2, 2], double).requiresGrad_();
    gradcheck((input) => layer.forward(input), [x, layer.weight!, layer.bias!]);
  });

  it('keeps channels-last memory, and bfloat16 activations with float32 state', () => {
    const alone: StatisticsExchange = { allGather: (row) => row.unsqueeze(0), allReduce: (values) => values };
    const layer = new SyncBatchNorm({ features: 3, exchange: alone, device });
    const plain = new BatchNorm2d({ features: 3, device });
    const x = torch.randn([4, 3, 5, 5], { device }).contiguous({ memoryFormat: 'channels_last' });
    const y = layer.forward(x);
    assert.ok(y.isContiguous('channels_last'));
    assertClose(y, plain.forward(x), { atol: 1e-5 });
    const low = x.to('bfloat16').requiresGrad_();
    const z = layer.forward(low);
    z.backward(torch.onesLike(z));
    assert.equal(z.dtype, 'bfloat16');
    assert.equal(low.grad!.dtype, 'bfloat16');
    assertClose(z.to('float32'), y, { atol: 0.03, rtol: 0.02 });
    plain.forward(x);
    assertClose(layer.runningVar!, plain.runningVar!, { rtol: 0.01 });
  });

  it('exchanges once forwards and once backwards in training, never in evaluation', () => {
    const rounds = new Rounds();
    const layer = new SyncBatchNorm({ features: 2, exchange: rounds.of(0), device });
    const x = torch.randn([4, 2], { device }).requiresGrad_();
    layer.forward(x).sum().backward();
    assert.deepEqual([rounds.gathers, rounds.reduces], [1, 1]);
    layer.eval().forward(x).sum().backward();
    assert.deepEqual([rounds.gathers, rounds.reduces], [1, 1]);
  });

  it('is batch normalisation without an exchange, and has its state', () => {
    const layer = new SyncBatchNorm({ features: 3, ...double });
    const plain = new BatchNorm1d({ features: 3, ...double });
    plain.loadStateDict(layer.stateDict());
    const x = torch.randn([5, 3], double);
    assertClose(layer.forward(x), plain.forward(x), { atol: 0, rtol: 0 });
    assertClose(layer.eval().forward(x), plain.eval().forward(x), { atol: 0, rtol: 0 });
  });

  it('refuses a joined batch of one value before it counts, rows that do not fit, and second derivatives', () => {
    const alone: StatisticsExchange = { allGather: (row) => row.unsqueeze(0), allReduce: (values) => values };
    const layer = new SyncBatchNorm({ features: 2, exchange: alone, device });
    for (const rows of [0, 1]) {
      assert.throws(
        () => layer.forward(torch.zeros([rows, 2], { device })),
        /SyncBatchNorm: training needs more than one value/,
      );
    }
    assert.deepEqual(numbers(layer.numBatchesTracked!), [0]);
    assert.throws(
      () => layer.forward(torch.zeros([2], { device })),
      /SyncBatchNorm: expected \[N, C, …\], found shape \[2\]/,
    );
    const wrong = new SyncBatchNorm({ features: 2, exchange: { ...alone, allGather: (row) => row }, device });
    assert.throws(() => wrong.forward(torch.randn([4, 2], { device })), /allGather gave \[5\], expected \[parts, 5\]/);
    const x = torch.randn([4, 2], { device }).requiresGrad_();
    assert.throws(() => grad(layer.forward(x).square().sum(), x, { createGraph: true }), /gradients of gradients/);
  });
});
