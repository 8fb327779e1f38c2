import assert from 'node:assert/strict';
import { contrast } from '../../src/contrast';
import { Conv2d, Dropout, Flatten, functional, GELU, Linear, Module, Parameter, Sequential } from '../../src/nn';
import {
  BatchChannelNorm1d,
  BatchNorm1d,
  BatchNorm2d,
  BatchRenorm1d,
  CholeskyWhitening,
  ConvBN2d,
  CrossIterationBatchNorm,
  GhostBatchNorm1d,
  IterativeWhitening,
  PowerNorm,
  SplitBatchNorm1d,
  UncenteredBatchNorm1d,
} from '../../src/norm';
import {
  autocast,
  defaultGenerator,
  Generator,
  InvalidArgumentError,
  manualSeed,
  memory,
  noGrad,
  resetPeakMemory,
  scope,
  torch,
  type DType,
  type Tensor,
} from '../../src/torch';
import { gradCache, type GradCacheOptions } from '../../src/train/grad-cache';
import { assertClose, numbers } from '../support/close';

const random = (shape: number[], dtype: DType): Tensor => torch.randn(shape, { dtype });

function infoNce(anchors: Tensor, embeddings: Tensor): Tensor {
  const labels = torch.arange(anchors.sizeOf(0), { dtype: 'int64' });
  return contrast({ anchors, candidates: { embeddings, labels }, labels, symmetric: true, temperature: 0.2 });
}

function mlp(input: number, dtype: DType, p = 0): Sequential {
  return new Sequential(
    new Linear({ inFeatures: input, outFeatures: 16 }),
    new GELU(),
    new Dropout({ p }),
    new Linear({ inFeatures: 16, outFeatures: 6 }),
  ).to(dtype) as Sequential;
}

/** Gradients of modules by place, which are then forgotten. */
function take(...modules: Module[]): Tensor[] {
  const gradients = modules.flatMap((module) => module.parameters().map((parameter) => parameter.grad!));
  for (const module of modules) module.zeroGrad();
  return gradients;
}

function assertAllClose(found: Tensor[], expected: Tensor[], atol: number): void {
  assert.equal(found.length, expected.length);
  found.forEach((gradient, i) => {
    const most = expected[i]!.abs().max().itemSync();
    assertClose(gradient, expected[i]!, { atol: atol * Math.max(1, most), rtol: atol }, String(i));
  });
}

/** What every part of the state of random numbers, buffers and gradients is. */
function stateOf(...modules: Module[]): unknown {
  return scope(() => [
    numbers(defaultGenerator('cpu').getState()),
    modules.map((module) => [...module.namedBuffers().values()].map(numbers)),
    modules.map((module) => module.parameters().map(({ grad }) => grad && numbers(grad))),
  ]);
}

describe('gradCache', () => {
  for (const [dtype, tolerance] of [
    ['float32', 1e-6],
    ['float64', 1e-10],
  ] as const) {
    it(`gives the gradients of the whole batch: ${dtype}`, () => {
      scope(() => {
        const [first, second] = [mlp(5, dtype), mlp(3, dtype)];
        const temperature = new Parameter(torch.tensor(0.3, { dtype }));
        const [x, y] = [random([13, 5], dtype), random([13, 3], dtype)];
        const labels = torch.arange(13, { dtype: 'int64' });
        const objective = (anchors: Tensor, embeddings: Tensor): Tensor =>
          contrast({ anchors, candidates: { embeddings, labels }, labels, temperature });
        const loss = objective(first.forward(x), second.forward(y));
        loss.backward();
        const expected = [...take(first, second), temperature.grad!];
        for (const chunk of [1, 4, 13, 50]) {
          temperature.grad = null;
          const towers = [
            { encoder: first, input: x },
            { encoder: second, input: [y], chunk: 5 },
          ];
          const found = gradCache(towers, objective, { chunk });
          assertClose(found.loss.detach(), loss.detach(), { atol: tolerance, rtol: tolerance });
          // As a Trainer does; it adds nothing.
          found.loss.backward();
          assertAllClose([...take(first, second), temperature.grad!], expected, tolerance);
          assertClose(found.embeddings[0]!, first.forward(x).detach(), { atol: tolerance });
          assert.equal(found.embeddings[0]!.requiresGrad, false);
        }
      });
    });

    it(`drops the same elements both times: ${dtype}`, () => {
      scope(() => {
        const [first, second] = [mlp(5, dtype, 0.4), mlp(3, dtype, 0.2)];
        const [x, y] = [random([11, 5], dtype), random([11, 3], dtype)];
        manualSeed(7);
        const parts = (encoder: Module, input: Tensor): Tensor =>
          torch.cat(input.split(4).map((part) => encoder.forward(part)));
        const loss = infoNce(parts(first, x), parts(second, y));
        loss.backward();
        const after = numbers(defaultGenerator('cpu').getState());
        const expected = take(first, second);
        manualSeed(7);
        const towers = [
          { encoder: first, input: x },
          { encoder: second, input: y },
        ];
        const found = gradCache(towers, infoNce, { chunk: 4 });
        assertClose(found.loss.detach(), loss.detach(), { atol: tolerance });
        assertAllClose(take(first, second), expected, tolerance);
        // Random numbers go on as after one pass.
        assert.deepEqual(numbers(defaultGenerator('cpu').getState()), after);
      });
    });
  }

  it('takes one encoder for several inputs, and adds to gradients that are there', () => {
    scope(() => {
      const encoder = mlp(5, 'float64');
      const [x, y] = [random([7, 5], 'float64'), random([7, 5], 'float64')];
      for (let i = 0; i < 2; i++) infoNce(encoder.forward(x), encoder.forward(y)).backward();
      const expected = take(encoder);
      const towers = [x, y].map((input) => ({ encoder, input }));
      for (let i = 0; i < 2; i++) gradCache(towers, infoNce, { chunk: 3 });
      assertAllClose(take(encoder), expected, 1e-10);
    });
  });

  it('runs under autocast, with the gradients of the chunks as they are there', () => {
    scope(() => {
      const [first, second] = [mlp(32, 'float32', 0.3), mlp(24, 'float32', 0.3)];
      const [x, y] = [random([9, 32], 'float32'), random([9, 24], 'float32')];
      manualSeed(3);
      // One autocast a chunk, so that gradients of the chunks are added in float32 here as well.
      const parts = (encoder: Module, input: Tensor): Tensor =>
        torch.cat(input.split(4).map((part) => autocast({}, () => encoder.forward(part))));
      const loss = infoNce(parts(first, x), parts(second, y));
      loss.backward();
      const expected = take(first, second);
      manualSeed(3);
      const towers = [
        { encoder: first, input: x },
        { encoder: second, input: y },
      ];
      const { embeddings } = autocast({}, () => gradCache(towers, infoNce, { chunk: 4 }));
      assert.equal(embeddings[0]!.dtype, 'bfloat16');
      assertAllClose(take(first, second), expected, 1e-6);
    });
  });

  it('cuts by cost: neighbours together up to the most, what costs more alone', () => {
    scope(() => {
      const sizes: number[] = [];
      class Recorder extends Module {
        override forward(x: Tensor): Tensor {
          sizes.push(x.sizeOf(0));
          return x;
        }
      }
      const costs = [3, 4, 3, 9, 25, 1, 1, 1];
      const [anchors, embeddings] = [random([8, 2], 'float64').requiresGrad_(), random([8, 2], 'float64')];
      const objective = (x: Tensor): Tensor => infoNce(anchors, x);
      const chunk = { most: 10, cost: (sample: number) => costs[sample]! };
      gradCache([{ encoder: new Recorder(), input: embeddings }], objective, { chunk });
      // An encoder with nothing to learn runs once; the objective's own leaves learn all the same.
      assert.deepEqual(sizes, [3, 1, 1, 3]);
      assert.ok(anchors.grad!.abs().sum().itemSync() > 0);
    });
  });

  it('takes as much memory for 64 chunks as for one, beside the embeddings', () => {
    scope(() => {
      const encoder = new Sequential(
        new Linear({ inFeatures: 4, outFeatures: 4096 }),
        new GELU(),
        new Linear({ inFeatures: 4096, outFeatures: 8 }),
      );
      const peakOf = (samples: number): number =>
        scope(() => {
          const [x, y] = [random([samples, 4], 'float32'), random([samples, 8], 'float32')];
          encoder.zeroGrad();
          resetPeakMemory();
          const before = memory().cpuBytes;
          gradCache([{ encoder, input: x }], (a) => infoNce(a, y), { chunk: 8 });
          return memory().peakCpuBytes - before;
        });
      peakOf(8);
      const [one, many] = [peakOf(8), peakOf(8 * 64)];
      // A chunk's activations are about 260 kB: those of 63 more would be 16 MB. The rest is the objective's own, and the embeddings.
      assert.ok(many - one < 2e6, `${one} and ${many}`);
      assert.ok(one > 2e5, String(one));
    });
  });

  it('puts everything back after an error, wherever it comes from', () => {
    scope(() => {
      const build = (): Sequential =>
        new Sequential(
          new Linear({ inFeatures: 3, outFeatures: 4 }),
          new BatchNorm1d({ features: 4 }),
          new Dropout(),
          new Linear({ inFeatures: 4, outFeatures: 2 }),
        );
      class Fails extends Module {
        readonly inner = build();
        calls = 0;
        constructor(readonly at: number) {
          super();
        }
        override forward(x: Tensor): Tensor {
          if (++this.calls === this.at) throw new Error('at last');
          return this.inner.forward(x);
        }
      }
      const x = random([6, 3], 'float32');
      for (const batchNorm of ['chunk', 'exact'] as const) {
        for (const at of [1, 3, 4, 6, 7]) {
          const encoder = new Fails(at);
          gradCache([{ encoder: encoder.inner, input: x }], (a) => infoNce(a, x.narrow(1, 0, 2)), {
            chunk: 2,
            batchNorm,
          });
          const before = stateOf(encoder);
          const objective = (a: Tensor): Tensor => {
            if (at === 7) throw new Error('at last');
            return infoNce(a, x.narrow(1, 0, 2));
          };
          const run = (): unknown => gradCache([{ encoder, input: x }], objective, { chunk: 2, batchNorm });
          assert.throws(run, /at last/);
          assert.deepEqual(stateOf(encoder), before);
        }
      }
    });
  });

  it('gives buffers their course again, and leaves them and the random numbers as one pass does', () => {
    scope(() => {
      // Each forward pass in training counts, and the count matters.
      class Counts extends Module {
        readonly linear = new Linear({ inFeatures: 3, outFeatures: 3, dtype: 'float64' });
        readonly norm = new BatchNorm1d({ features: 3, dtype: 'float64' });
        readonly dropout = new Dropout({ p: 0.1 });
        readonly calls = this.registerBuffer('calls', torch.zeros([], { dtype: 'float64' }));
        override forward(x: Tensor): Tensor {
          noGrad(() => this.calls.add_(1).dispose());
          return this.dropout.forward(this.norm.forward(this.linear.forward(x))).mul(this.calls.clone());
        }
      }
      const inputs = [random([6, 3], 'float64'), random([6, 3], 'float64')];
      for (const batchNorm of ['chunk', 'exact'] as const) {
        const encoder = new Counts();
        manualSeed(2);
        // The second tower's embeddings have no gradient, so it runs once only.
        const towers = inputs.map((input) => ({ encoder, input }));
        const first = gradCache(towers, (a, b) => infoNce(a, b.detach()), { chunk: 2, batchNorm });
        assert.equal(encoder.calls.itemSync(), 6);
        assert.deepEqual(numbers(encoder.norm.numBatchesTracked!), [batchNorm === 'chunk' ? 6 : 2]);
        const next = torch.rand([2]);
        manualSeed(2);
        // The same numbers from two passes that learn nothing.
        encoder.requiresGrad_(false);
        noGrad(() => encoder.calls.zero_());
        const anchors = random([6, 3], 'float64').requiresGrad_();
        manualSeed(2);
        const second = gradCache(towers, (a) => infoNce(anchors, a), { chunk: 2, batchNorm });
        assertClose(torch.rand([2]), next, { atol: 0 });
        second.embeddings.forEach((x, i) => {
          assertClose(x, first.embeddings[i]!, { atol: 0 });
        });
      }
    });
  });

  it('finds an encoder that does something else the second time', () => {
    scope(() => {
      const generator = new Generator({ seed: 1 });
      class Noisy extends Module {
        readonly linear = new Linear({ inFeatures: 3, outFeatures: 2 });
        override forward(x: Tensor): Tensor {
          return this.linear.forward(x).add(torch.randn([x.sizeOf(0), 2], { generator }));
        }
      }
      const encoder = new Noisy();
      const [x, y] = [random([5, 3], 'float32'), random([5, 2], 'float32')];
      const run = (options: Partial<GradCacheOptions> = {}): unknown =>
        gradCache([{ encoder, input: x }], (a) => infoNce(a, y), { chunk: 2, ...options });
      assert.throws(run, /the encoder of tower 0 gave other embeddings the second time.*not in generators/);
      assert.equal(encoder.linear.weight.grad, null);
      run({ generators: [generator] });
      assert.notEqual(encoder.linear.weight.grad, null);
    });
  });

  describe('with batch norms', () => {
    const images = (samples: number): Tensor => random([samples, 1, 4, 4], 'float64');
    const build = (momentum: number | null = 0.1): Sequential =>
      new Sequential(
        new Conv2d({ inChannels: 1, outChannels: 3, kernelSize: 3, bias: false }),
        new BatchNorm2d({ features: 3, momentum }),
        new GELU(),
        new Flatten(),
        new Linear({ inFeatures: 12, outFeatures: 6 }),
        new BatchNorm1d({ features: 6, momentum }),
        new GELU(),
        new Linear({ inFeatures: 6, outFeatures: 4 }),
        new BatchNorm1d({ features: 4, affine: false, trackRunningStats: false }),
      ).to('float64') as Sequential;

    it('refuses them and names the choices', () => {
      scope(() => {
        const encoder = build();
        const run = (): unknown => gradCache([{ encoder, input: images(4) }], (x) => x.sum(), { chunk: 2 });
        assert.throws(
          run,
          (error: unknown) =>
            error instanceof InvalidArgumentError &&
            /tower 0 has a BatchNorm2d .* evaluation mode .* another norm, .* 'exact' .* 'chunk'/.test(error.message),
        );
      });
    });

    for (const momentum of [0.1, null]) {
      it(`normalises by the whole batch, exactly, and moves running statistics once: momentum ${momentum}`, () => {
        scope(() => {
          const [whole, cut] = [build(momentum), build(momentum)];
          cut.loadStateDict(whole.stateDict());
          for (const chunk of [4, 11]) {
            const [x, y] = [images(11), images(11)];
            const loss = infoNce(whole.forward(x), whole.forward(y));
            loss.backward();
            const towers = [x, y].map((input) => ({ encoder: cut, input }));
            const found = gradCache(towers, infoNce, { chunk, batchNorm: 'exact' });
            assertClose(found.loss.detach(), loss.detach(), { atol: 1e-10 });
            assertAllClose(take(cut), take(whole), 1e-10);
            const [expected, buffers] = [whole.namedBuffers(), cut.namedBuffers()];
            for (const [name, buffer] of buffers) assertClose(buffer, expected.get(name)!, { atol: 1e-12 }, name);
          }
        });
      });
    }

    it('is exact in float32 and under autocast as well', () => {
      scope(() => {
        const make = (): Sequential =>
          new Sequential(
            new Linear({ inFeatures: 8, outFeatures: 16 }),
            new BatchNorm1d({ features: 16 }),
            new GELU(),
            new Linear({ inFeatures: 16, outFeatures: 8 }),
            new BatchNorm1d({ features: 8 }),
          );
        const [whole, cut] = [make(), make()];
        cut.loadStateDict(whole.stateDict());
        const x = random([21, 8], 'float32');
        const y = random([21, 8], 'float32');
        for (const [isShort, atol] of [
          [false, 1e-6],
          [true, 1e-2],
        ] as const) {
          const within = <T>(body: () => T): T => autocast({ enabled: isShort }, body);
          const loss = within(() => infoNce(whole.forward(x), y));
          loss.backward();
          within(() => gradCache([{ encoder: cut, input: x }], (a) => infoNce(a, y), { chunk: 8, batchNorm: 'exact' }));
          assertAllClose(take(cut), take(whole), atol);
        }
      });
    });

    it('is exact with dropout between them, by finite differences', () => {
      scope(() => {
        const encoder = new Sequential(
          new Linear({ inFeatures: 3, outFeatures: 5 }),
          new BatchNorm1d({ features: 5 }),
          new Dropout({ p: 0.3 }),
          new Linear({ inFeatures: 5, outFeatures: 4 }),
          new Dropout({ p: 0.2 }),
          new BatchNorm1d({ features: 4 }),
          new Linear({ inFeatures: 4, outFeatures: 2 }),
        ).to('float64') as Sequential;
        const [x, y] = [random([7, 3], 'float64'), random([7, 2], 'float64')];
        const loss = (): number => {
          manualSeed(5);
          const towers = [{ encoder, input: x }];
          return gradCache(towers, (a) => infoNce(a, y), { chunk: 3, batchNorm: 'exact' }).loss.itemSync();
        };
        loss();
        const after = numbers(defaultGenerator('cpu').getState());
        const gradients = take(encoder);
        encoder.parameters().forEach((parameter, i) => {
          const direction = torch.randn(parameter.shape, { dtype: 'float64' });
          const moved = (by: number): number => {
            noGrad(() => parameter.add_(direction, { alpha: by }));
            const value = loss();
            noGrad(() => parameter.sub_(direction, { alpha: by }));
            return value;
          };
          const slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
          assert.ok(Math.abs(slope - gradients[i]!.mul(direction).sum().itemSync()) < 1e-7, `${i}: ${slope}`);
        });
        // The random numbers do go on.
        manualSeed(5);
        assert.notDeepEqual(numbers(defaultGenerator('cpu').getState()), after);
      });
    });

    it('normalises chunk by chunk on request, with exact gradients, each chunk counted once', () => {
      scope(() => {
        const [parts, cut] = [build(), build()];
        cut.loadStateDict(parts.stateDict());
        const [x, y] = [images(8), random([8, 4], 'float64')];
        infoNce(torch.cat(x.split(4).map((part) => parts.forward(part))), y).backward();
        gradCache([{ encoder: cut, input: x }], (a) => infoNce(a, y), { chunk: 4, batchNorm: 'chunk' });
        assertAllClose(take(cut), take(parts), 1e-10);
        const expected = parts.namedBuffers();
        for (const [name, buffer] of cut.namedBuffers())
          assertClose(buffer, expected.get(name)!, { atol: 1e-12 }, name);
      });
    });

    it('takes a block of convolution and norm for what it does in its mode', () => {
      scope(() => {
        const encoder = new ConvBN2d({ inChannels: 1, outChannels: 2, kernelSize: 3, mode: 'tune' });
        const towers = [{ encoder, input: random([4, 1, 5, 5], 'float32') }];
        gradCache(towers, (y) => y.square().sum(), { chunk: 2 });
        encoder.setMode('train');
        assert.throws(() => gradCache(towers, (y) => y.square().sum(), { chunk: 2 }), /BatchNorm2d that normalises by/);
      });
    });

    it('leaves frozen statistics alone', () => {
      scope(() => {
        const encoder = build();
        encoder.forward(images(5));
        for (const module of encoder.modules()) {
          if (module instanceof BatchNorm1d || module instanceof BatchNorm2d) module.eval();
        }
        const frozen = new Sequential(...[0, 1, 2, 3, 4, 5, 6, 7].map((i) => encoder.at(i)));
        const before = [...frozen.namedBuffers().values()].map(numbers);
        const [x, y] = [images(7), random([7, 4], 'float64')];
        infoNce(frozen.forward(x), y).backward();
        const expected = take(frozen);
        gradCache([{ encoder: frozen, input: x }], (a) => infoNce(a, y), { chunk: 3 });
        assertAllClose(take(frozen), expected, 1e-10);
        assert.deepEqual([...frozen.namedBuffers().values()].map(numbers), before);
      });
    });

    it('refuses other statistics than the mean and variance, single values, and chunks that go different ways', () => {
      scope(() => {
        const run =
          (encoder: Module, input: Tensor): (() => unknown) =>
          () =>
            gradCache([{ encoder, input }], (x) => functional.normalize(x).sum(), { chunk: 1, batchNorm: 'exact' });
        const norms = [
          new SplitBatchNorm1d({ features: 3, splits: 2 }),
          new GhostBatchNorm1d({ features: 3, ghostSize: 2 }),
          new BatchRenorm1d({ features: 3 }),
          new UncenteredBatchNorm1d({ features: 3 }),
          new CholeskyWhitening({ features: 3 }),
          new IterativeWhitening({ features: 3 }),
          new BatchChannelNorm1d({ features: 3, groups: 1 }),
          new PowerNorm({ features: 3 }),
        ];
        for (const norm of norms) {
          const x = random([8, 3], 'float32');
          const refusal = new RegExp(`${norm.constructor.name} takes something else of the batch`);
          assert.throws(run(norm, x), refusal);
          assert.throws(
            () => gradCache([{ encoder: norm, input: x }], (y) => y.sum(), { chunk: 4 }),
            /normalises by the batch/,
          );
          gradCache([{ encoder: norm.eval(), input: x }], (y) => y.sum(), { chunk: 4 });
        }
        const remembering = new CrossIterationBatchNorm({ features: 3 });
        assert.throws(
          run(remembering, random([4, 3], 'float32')),
          /CrossIterationBatchNorm, which remembers earlier batches/,
        );
        assert.throws(run(new BatchNorm1d({ features: 2 }), random([4, 3], 'float32')), /expected 2 channels/);
        class Turns extends Module {
          readonly norm = new BatchNorm1d({ features: 3 });
          override forward(x: Tensor): Tensor {
            return x.sum().itemSync() > 0 ? this.norm.forward(x) : x;
          }
        }
        const input = torch.tensor([[1, 1, 1], [-1, -1, -1]]); // prettier-ignore
        assert.throws(run(new Turns(), input), /in some chunks the encoder called other batch norms/);
      });
    });
  });

  it('refuses what does not fit, and says what would', () => {
    scope(() => {
      const encoder = mlp(3, 'float32');
      const x = random([4, 3], 'float32');
      const refuses = (
        message: RegExp,
        tower: Partial<Parameters<typeof gradCache>[0][number]> = {},
        options: GradCacheOptions = { chunk: 2 },
        objective = (a: Tensor): Tensor => a.sum(),
      ): void => {
        assert.throws(
          () => gradCache([{ encoder, input: x, ...tower }], objective, options),
          (error: unknown) => error instanceof InvalidArgumentError && message.test(error.message),
        );
      };
      assert.throws(() => gradCache([], (a) => a!.sum(), { chunk: 2 }), /there is no tower/);
      refuses(/chunk must be an integer of at least 1, found 0/, {}, { chunk: 0 });
      refuses(/the most that a chunk costs must be above 0/, {}, { chunk: { most: 0, cost: () => 1 } });
      refuses(/sample 0 costs NaN/, {}, { chunk: { most: 3, cost: () => NaN } });
      refuses(/tower 0 has no input/, { input: [] });
      refuses(/found \[4, 3\] and \[3, 3\]/, { input: [x, random([3, 3], 'float32')] });
      refuses(/an input requires gradients/, { input: x.detach().requiresGrad_() });
      refuses(/must give one number, found shape \[4, 6\]/, {}, { chunk: 2 }, (a) => a);
      refuses(/depends on nothing that learns/, {}, { chunk: 2 }, (a) => a.detach().sum());
      class Sums extends Module {
        readonly weight = new Parameter(torch.ones([3]));
        override forward(input: Tensor): Tensor {
          return input.mul(this.weight).sum([0]);
        }
      }
      refuses(/gave \[3\] for 2 samples/, { encoder: new Sums() });
    });
  });
});
