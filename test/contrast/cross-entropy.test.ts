import assert from 'node:assert/strict';
import { linearCrossEntropy, type LinearCrossEntropyOptions } from '../../src/contrast/cross-entropy';
import {
  autocast,
  grad,
  gradcheck,
  InvalidArgumentError,
  memory,
  resetPeakMemory,
  scope,
  torch,
  type DType,
  type Tensor,
} from '../../src/torch';
import { assertClose } from '../support/close';

const random = (shape: number[], dtype: DType = 'float64'): Tensor => torch.randn(shape, { dtype });
const targetsOf = (rows: number, classes: number): Tensor => torch.randint(0, classes, [rows], { dtype: 'int64' });
const executions = ['dense', 'tiled'] as const;
const reductions = { none: 0, mean: 1, sum: 2 } as const;

/** The same by LibTorch's own operator on the logits. */
function byLogits(
  embeddings: Tensor,
  classes: Tensor,
  targets: Tensor,
  options: LinearCrossEntropyOptions = {},
): Tensor {
  const { bias, temperature = 1, ignoreIndex = -100, labelSmoothing = 0, zLoss = 0, reduction = 'mean' } = options;
  const products = embeddings.matmul(classes.t());
  const logits = (bias === undefined ? products : products.add(bias)).div(temperature);
  const loss = torch.crossEntropyLoss(logits, targets, null, reductions[reduction], ignoreIndex, labelSmoothing);
  if (zLoss === 0) return loss;
  const counted = targets.ne(ignoreIndex).to('float64');
  const squares = logits.logsumexp([1]).square().mul(counted).mul(zLoss);
  if (reduction === 'none') return loss.add(squares);
  return loss.add(reduction === 'sum' ? squares.sum() : squares.sum().div(counted.sum()));
}

describe('linearCrossEntropy', () => {
  for (const execution of executions) {
    it(`is the cross-entropy of the logits, with its gradients: ${execution}`, () => {
      scope(() => {
        for (const [n, c, d] of [
          [1, 1, 1],
          [3, 5, 2],
          [5, 1, 4],
          [131, 261, 7],
        ] as const) {
          const embeddings = random([n, d]).requiresGrad_();
          const classes = random([c, d]).requiresGrad_();
          const bias = random([c]).requiresGrad_();
          const temperature = torch.tensor(0.7, { dtype: 'float64' }).requiresGrad_();
          const targets = targetsOf(n, c);
          const ignored = torch.where(torch.arange(n).remainder(3).eq(1), targets.newFull([n], -100), targets);
          const weights = random([n]);
          const variants: LinearCrossEntropyOptions[] = [
            {},
            { labelSmoothing: 0.1 },
            { zLoss: 1e-2 },
            { bias, temperature, labelSmoothing: 0.3, zLoss: 0.1 },
          ];
          for (const options of n > 100 ? variants.slice(-1) : variants) {
            for (const given of n > 100 ? [ignored] : [targets, ignored]) {
              for (const reduction of ['mean', 'sum', 'none'] as const) {
                const learning = [embeddings, classes, ...(options.bias ? [bias, temperature] : [])];
                const run = (of: typeof byLogits): Tensor[] => {
                  const loss = of(embeddings, classes, given, { ...options, reduction, execution });
                  const sum = reduction === 'none' ? loss.mul(weights).sum() : loss;
                  return [loss.detach(), ...grad(sum, learning).map((slope) => slope!)];
                };
                const [found, expected] = [run(linearCrossEntropy), run(byLogits)];
                found.forEach((value, i) => {
                  assertClose(value, expected[i]!, { atol: 1e-10, rtol: 1e-10 }, `${n}×${c}×${d} ${reduction} ${i}`);
                });
              }
            }
          }
        }
      });
    });

    it(`passes the finite-difference check: ${execution}`, () => {
      scope(() => {
        const targets = torch.tensor([0n, 3n, -100n, 2n]);
        gradcheck(
          (embeddings, classes, bias, temperature) =>
            linearCrossEntropy(embeddings!, classes!, targets, {
              bias: bias!,
              temperature: temperature!,
              labelSmoothing: 0.2,
              zLoss: 0.1,
              execution,
            }),
          [
            random([4, 3]).requiresGrad_(),
            random([5, 3]).requiresGrad_(),
            random([5]).requiresGrad_(),
            torch.tensor([0.8], { dtype: 'float64' }).requiresGrad_(),
          ],
        );
      });
    });

    it(`is 0 with gradients of 0 where every row is ignored: ${execution}`, () => {
      scope(() => {
        const [embeddings, classes] = [random([3, 2]).requiresGrad_(), random([4, 2]).requiresGrad_()];
        const targets = torch.tensor([7n, 7n, 7n]);
        for (const reduction of ['mean', 'sum', 'none'] as const) {
          const loss = linearCrossEntropy(embeddings, classes, targets, { ignoreIndex: 7, reduction, execution });
          assertClose(loss, torch.zeros(reduction === 'none' ? [3] : [], { dtype: 'float64' }));
          for (const slope of grad(loss.sum(), [embeddings, classes])) assert.equal(slope!.abs().sum().itemSync(), 0);
        }
      });
    });

    it(`is finite for extreme temperatures and exact for small losses: ${execution}`, () => {
      scope(() => {
        for (const temperature of [0.005, 10]) {
          const [embeddings, classes] = [
            random([33, 8], 'float32').requiresGrad_(),
            random([65, 8], 'float32').requiresGrad_(),
          ];
          const loss = linearCrossEntropy(embeddings, classes, targetsOf(33, 65), { temperature, execution });
          for (const x of [loss, ...grad(loss, [embeddings, classes])]) assert.equal(x!.isfinite().all().itemSync(), 1);
        }
        // The target's logit is 30 above the other: the loss is log(1 + exp(−30)), which 1 + exp(−30) would lose.
        const row = torch.tensor([[30, 0]]);
        const small = linearCrossEntropy(row, torch.eye(2), torch.tensor([0n]), { execution });
        assertClose(small, torch.tensor(Math.log1p(Math.exp(-30))), { atol: 0, rtol: 1e-5 });
      });
    });

    it(`computes in float32 for bfloat16, also under autocast: ${execution}`, () => {
      scope(() => {
        const embeddings = random([41, 16], 'bfloat16').requiresGrad_();
        const classes = random([67, 16], 'bfloat16').requiresGrad_();
        const targets = targetsOf(41, 67);
        const [a, b] = [embeddings, classes].map((x) => x.detach().to('float64').requiresGrad_());
        const expected = byLogits(a!, b!, targets);
        const slopes = grad(expected, [a!, b!]);
        const loss = autocast({}, () => linearCrossEntropy(embeddings, classes, targets, { execution }));
        assert.equal(loss.dtype, 'float32');
        assertClose(loss.to('float64'), expected, { atol: 1e-6, rtol: 1e-5 });
        grad(loss, [embeddings, classes]).forEach((slope, i) => {
          assert.equal(slope!.dtype, 'bfloat16');
          assertClose(slope!.to('float64'), slopes[i]!, { atol: 1e-5, rtol: 1e-2 });
        });
      });
    });
  }

  it('holds no logits when it goes tile by tile', () => {
    scope(() => {
      const [embeddings, classes] = [
        random([2000, 16], 'float32').requiresGrad_(),
        random([20000, 16], 'float32').requiresGrad_(),
      ];
      const targets = targetsOf(2000, 20000);
      resetPeakMemory();
      const before = memory().cpuBytes;
      grad(linearCrossEntropy(embeddings, classes, targets), [embeddings, classes]);
      // The logits would be 160 MB.
      assert.ok(memory().peakCpuBytes - before < 16e6, String(memory().peakCpuBytes - before));
    });
  });

  it('leaves out gradients that are too small to matter where that was asked for', () => {
    scope(() => {
      const classes = torch.eye(1500, { dtype: 'float64' }).requiresGrad_();
      // In order, so that most tiles hold no row's class.
      const targets = torch.arange(700, { dtype: 'int64' });
      // Near to their class, and far from all others.
      const embeddings = torch.eye(1500, { dtype: 'float64' }).indexSelect(0, targets).mul(8).requiresGrad_();
      const slopes = (gradientFilter: number): Tensor[] => {
        const loss = linearCrossEntropy(embeddings, classes, targets, { gradientFilter, execution: 'tiled' });
        return grad(loss, [embeddings, classes]).map((slope) => slope!);
      };
      const [exact, filtered] = [slopes(0), slopes(2 ** -9)];
      exact.forEach((expected, i) => {
        const largest = expected.abs().max().itemSync();
        assertClose(filtered[i]!, expected, { atol: largest * 0.01 });
        assert.ok(filtered[i]!.ne(expected).any().itemSync());
      });
    });
  });

  it('refuses what does not fit, and says what would', () => {
    scope(() => {
      const [embeddings, classes, targets] = [random([3, 2]), random([4, 2]), torch.tensor([0n, 1n, 3n])];
      const refuses = (run: () => Tensor, message: RegExp): void => {
        assert.throws(run, (error: unknown) => error instanceof InvalidArgumentError && message.test(error.message));
      };
      const given = (options: LinearCrossEntropyOptions) => () =>
        linearCrossEntropy(embeddings, classes, targets, options);
      refuses(() => linearCrossEntropy(embeddings, random([4, 3]), targets), /classes: expected shape \[N, 2\]/);
      refuses(
        () => linearCrossEntropy(embeddings, classes, torch.tensor([0n])),
        /targets: expected shape \[3\], found \[1\]/,
      );
      refuses(() => linearCrossEntropy(embeddings, classes, random([3])), /targets must be int64, found float64/);
      refuses(
        () => linearCrossEntropy(embeddings, classes, torch.tensor([0n, 4n, -100n])),
        /a class from 0 to 3 or ignoreIndex \(-100\); found 4/,
      );
      refuses(given({ bias: random([3]) }), /bias: expected shape \[4\], found \[3\]/);
      refuses(given({ temperature: 0 }), /temperature must be a positive number/);
      refuses(given({ labelSmoothing: 1.5 }), /labelSmoothing must be a number from 0 to 1/);
      refuses(given({ zLoss: -1 }), /zLoss must be a number of at least 0/);
      refuses(given({ gradientFilter: 1 }), /gradientFilter must be in \[0, 1\), found 1/);
      refuses(given({ gradientFilter: 0.1, labelSmoothing: 0.1 }), /would leave out what labelSmoothing adds/);
      refuses(given({ ignoreIndex: 0.5 }), /ignoreIndex must be an integer/);
    });
  });
});
