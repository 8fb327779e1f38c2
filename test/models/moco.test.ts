import assert from 'node:assert/strict';
import {
  Generator,
  InvalidArgumentError,
  autocast,
  isGradEnabled,
  keep,
  manualSeed,
  memory,
  noGrad,
  scope,
  torch,
  type Tensor,
} from '../../src/torch';
import type { StateDict, Stateful } from '../../src/torch/state';
import { InfoNCE } from '../../src/contrast';
import {
  MoCo,
  ProjectionHead,
  ResidualEncoder,
  type BatchNormAnswer,
  type MoCoObjective,
  type MoCoOptions,
} from '../../src/models';
import { functional, type Module } from '../../src/nn';
import type { RowExchange } from '../../src/norm';
import { SGD } from '../../src/optim';
import { assertClose, numbers } from '../support/close';
import { device, onCuda } from '../support/device';
import { inRanks } from '../support/ranks';
import { golden } from '../support/golden';

interface Values {
  batch: number;
  queue: number;
  temperature: number;
  momentum: number;
  splits: number;
  steps: number;
  [run: string]: unknown;
}

interface Run {
  answer: BatchNormAnswer;
  symmetric: boolean;
  pointer: number;
}

const set = golden<Values>('moco');
const { values } = set;

function small(options: Partial<MoCoOptions> = {}): MoCo {
  const { temperature } = values;
  return new MoCo({
    encoder: ({ norm2d }) =>
      new ResidualEncoder({ inChannels: 1, widths: [4, 6], strides: [1, 2], stemStride: 2, norm: norm2d }),
    head: (inputSize, { norm1d }) => new ProjectionHead({ inputSize, hiddenSize: 7, outputSize: 5, norm: norm1d }),
    queueSize: values.queue,
    ...(options.objective === undefined ? { temperature } : {}),
    momentum: values.momentum,
    splits: values.splits,
    seed: 11,
    device,
    ...options,
  });
}

/** An objective with state: it adds noise to the queue, less with each call. */
class Noisy implements MoCoObjective, Stateful {
  readonly #generator = new Generator({ seed: 5 });
  calls = 0;

  contrast(queries: Tensor, keys: Tensor, queue: Tensor): { loss: Tensor; noise: Tensor } {
    const noise = torch.randn(queue.shape, { generator: this.#generator }).to(device).div(++this.calls);
    const loss = new InfoNCE({ temperature: values.temperature }).forward(queries, keys, queue.add(noise));
    return { loss, noise: noise.abs().mean() };
  }

  stateDict(): StateDict {
    return { tensors: new Map([['generator', this.#generator.getState()]]), values: { calls: this.calls } };
  }

  loadStateDict({ tensors, values: { calls } }: StateDict & { values: { calls: number } }): void {
    if (calls > 100) throw new InvalidArgumentError('Noisy: too many calls');
    this.#generator.setState(tensors.get('generator')!);
    this.calls = calls;
  }
}

const viewsOf = (step: number) => [set.tensors[`view_a.${step}`]!, set.tensors[`view_b.${step}`]!] as const;

function optimizerOf(moco: MoCo): SGD {
  return new SGD(moco.parameters(), { lr: 0.05, momentum: 0.9, weightDecay: 1e-3 });
}

function train(moco: MoCo, optimizer: SGD, from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, index) =>
    scope(() => {
      const { loss } = moco.step(...viewsOf(from + index));
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
      return loss.itemSync();
    }),
  );
}

describe('MoCo', () => {
  for (const name of ['none', 'split', 'shuffle_split', 'eman']) {
    const { answer, symmetric, pointer } = values[name] as unknown as Run;

    it(`equals plain PyTorch over ${values.steps} whole training steps: ${answer}${symmetric ? ', symmetric' : ''}`, () => {
      const moco = small({ batchNorm: answer, symmetric });
      const start = set.under('start.');
      moco.pair.query.loadStateDict(start);
      moco.pair.key.loadStateDict(start);
      const losses = train(moco, optimizerOf(moco), 0, values.steps);
      const tolerance = onCuda ? { atol: 5e-3, rtol: 5e-3 } : { atol: 2e-5, rtol: 1e-4 };
      losses.forEach((loss, step) => {
        assertClose(torch.tensor(loss), set.tensors[`${name}.loss.${step}`]!, tolerance, `loss of step ${step}`);
      });
      const { tensors } = moco.pair.stateDict();
      for (const side of ['query', 'key']) {
        const expected = set.under(`${name}.${side}.`);
        for (const [key, tensor] of expected) {
          assertClose(tensors.get(`${side}.${key}`)!, tensor, tolerance, `${side} ${key}`);
        }
        assert.equal([...tensors.keys()].filter((key) => key.startsWith(side)).length, expected.size);
      }
      assertClose(moco.queue.entries(), set.tensors[`${name}.queue`]!, tolerance, 'queue');
      assert.deepEqual([moco.queue.pointer, moco.queue.filled], [pointer, values.queue]);
    });
  }

  for (const [batchNorm, noisy] of [
    ['shuffle-split', false],
    ['eman', false],
    ['eman', true],
  ] as const) {
    it(`goes on exactly from its state: ${batchNorm}${noisy ? ', with an objective that draws' : ''}`, () => {
      const momentum = (step: number) => 0.5 + step / 10;
      const make = () =>
        small({ batchNorm, symmetric: true, momentum, ...(noisy ? { objective: new Noisy() } : undefined) });
      const whole = make();
      const optimizer = optimizerOf(whole);
      train(whole, optimizer, 0, 1);
      const resumed = make();
      const other = optimizerOf(resumed);
      const state = whole.stateDict();
      resumed.loadStateDict({
        tensors: new Map([...state.tensors].map(([name, tensor]) => [name, tensor.clone()])),
        values: JSON.parse(JSON.stringify(state.values)),
      });
      other.loadStateDict(optimizer.stateDict());
      assert.deepEqual(train(resumed, other, 1, 3), train(whole, optimizer, 1, 3));
      const [a, b] = [whole.stateDict(), resumed.stateDict()];
      for (const [name, tensor] of a.tensors) assert.deepEqual(numbers(b.tensors.get(name)!), numbers(tensor), name);
      assert.deepEqual(b.values, a.values);
    });
  }

  it('starts with a queue full of random directions', () => {
    const { queue } = small();
    assert.equal(queue.filled, values.queue);
    assertClose(queue.entries().linalgVectorNorm(2, [1]), torch.ones([values.queue]), { atol: 1e-5 });
    assert.deepEqual(numbers(small().queue.entries()), numbers(queue.entries()));
    assert.notDeepEqual(numbers(small({ seed: 12 }).queue.entries()), numbers(queue.entries()));
  });

  it('reports what it saw', () => {
    const moco = small({ batchNorm: 'none', momentum: 1 });
    const [view] = viewsOf(0);
    const { loss, positiveSimilarity, negativeSimilarity, accuracy } = moco.step(view, view);
    assert.ok(loss.requiresGrad && !accuracy.requiresGrad);
    // Both encoders are equal, so a view is its own key.
    assert.ok(Math.abs(positiveSimilarity.itemSync() - 1) < 1e-3);
    assert.ok(Math.abs(negativeSimilarity.itemSync()) < 0.6);
    assert.equal(accuracy.itemSync(), 1);
  });

  it('counts the other keys of the batch when asked to', () => {
    const plain = small({ batchNorm: 'none' });
    const more = small({ batchNorm: 'none', inBatchNegatives: true });
    more.loadStateDict(plain.stateDict());
    assert.ok(more.step(...viewsOf(0)).loss.itemSync() > plain.step(...viewsOf(0)).loss.itemSync());
    assert.ok(Number.isFinite(more.step(...viewsOf(1)).negativeSimilarity.itemSync()));
  });

  for (const symmetric of [false, true]) {
    it(`minimises what it is told to${symmetric ? ', in both directions' : ''}`, () => {
      const plain = small({ symmetric });
      const infoNce = new InfoNCE({ temperature: values.temperature });
      const calls: { queries: Tensor; keys: Tensor; queue: Tensor; gradients: boolean }[] = [];
      const objective: MoCoObjective = {
        contrast(queries, keys, queue) {
          calls.push({ queries: keep(queries), keys: keep(keys), queue: keep(queue), gradients: isGradEnabled() });
          const loss = infoNce.forward(queries, keys, queue);
          return { loss, hardest: queries.detach().matmul(queue.t()).amax() };
        },
      };
      const told = small({ symmetric, objective });
      assert.equal(told.objective, objective);
      // Without a state of the objective's the two are alike.
      told.loadStateDict(plain.stateDict());
      const before = told.queue.entries().clone();
      const step = autocast({ device: onCuda ? 'cuda' : 'cpu', enabled: false }, () => told.step(...viewsOf(0)));
      const expected = plain.step(...viewsOf(0));
      assert.deepEqual(Object.keys(step), [...Object.keys(expected), 'hardest']);
      for (const name of Object.keys(expected)) assertClose(step[name]!, expected[name]!, { atol: 1e-5 }, name);
      assert.ok(step.loss.requiresGrad && !step.positiveSimilarity.requiresGrad && !step.accuracy.requiresGrad);

      assert.equal(calls.length, symmetric ? 2 : 1);
      const hardest = calls.map(({ queries, queue }) => queries.detach().matmul(queue.t()).amax());
      assertClose(step.hardest!, torch.stack(hardest).mean());
      for (const { queries, keys, queue, gradients } of calls) {
        assert.ok(gradients && queries.requiresGrad && !keys.requiresGrad && !queue.requiresGrad);
        // As the queue was; and what came in since was not what the objective made of it.
        assert.deepEqual(numbers(queue), numbers(before));
      }
      const added = torch.cat(calls.map(({ keys }) => keys));
      assert.deepEqual(numbers(told.queue.entries().narrow(0, 0, added.sizeOf(0))), numbers(added));
    });
  }

  it('asks its objective outside of autocast, and takes the similarities that it gives', () => {
    const dtypes: string[] = [];
    const moco = small({
      objective: {
        contrast(queries, keys, queue) {
          const scores = queries.matmul(queue.t());
          dtypes.push(queries.dtype, keys.dtype, scores.dtype);
          return { loss: scores.mean(), accuracy: torch.tensor(7), negativeSimilarity: torch.tensor(8) };
        },
      },
    });
    const [a, b] = viewsOf(0);
    const step = autocast({ device: onCuda ? 'cuda' : 'cpu' }, () => moco.step(a, b));
    assert.deepEqual(dtypes, ['float32', 'float32', 'float32']);
    assert.deepEqual([step.accuracy, step.negativeSimilarity].map(numbers), [[7], [8]]);
    assert.equal(step.positiveSimilarity.dtype, 'float32');
  });

  it('trains only the query side, and keeps the key side of eman in evaluation mode', () => {
    const moco = small({ batchNorm: 'eman' });
    assert.ok(moco.pair.query.training && !moco.pair.key.training);
    moco.step(...viewsOf(0)).loss.backward();
    assert.ok(moco.parameters().every((parameter) => parameter.grad !== null));
    assert.ok(moco.pair.key.parameters().every((parameter) => parameter.grad === null));
    assert.deepEqual([...moco.namedParameters().keys()][0], 'encoder.conv1.weight');
    moco.eval();
    assert.ok(!moco.encoder.training && !moco.keyEncoder.training);
    moco.train();
    assert.ok(moco.encoder.training && !moco.keyEncoder.training);
  });

  it('runs under autocast, in channels-last memory, with a float32 loss and queue', () => {
    const moco = small({ memoryFormat: 'channels_last' });
    const [a, b] = viewsOf(0);
    const step = () => moco.step(a, b);
    const { loss } = autocast({ device: onCuda ? 'cuda' : 'cpu' }, step);
    assert.equal(loss.dtype, 'float32');
    assert.equal(moco.queue.dtype, 'float32');
    loss.backward();
    assert.ok(moco.parameters().every((parameter) => Number.isFinite(parameter.grad!.sum().itemSync())));
  });

  it('does not leak', () => {
    const moco = small({ symmetric: true });
    const optimizer = optimizerOf(moco);
    train(moco, optimizer, 0, 1);
    const before = memory().liveTensors;
    for (let round = 0; round < 4; round++) train(moco, optimizer, 0, 3);
    assert.equal(memory().liveTensors, before);
    moco.dispose();
  });

  for (const symmetric of [false, true]) {
    it(`shuffles and queues the keys of all ranks${symmetric ? ', in both directions' : ''}`, () => {
      const ranks = 2;
      const views = [viewsOf(0), viewsOf(1)] as const;
      const make = (exchange?: RowExchange): MoCo => {
        manualSeed(3);
        return small({ symmetric, exchange, splits: undefined, queueSize: 40 });
      };
      const found = inRanks(ranks, (exchange) => {
        const moco = make(exchange);
        const { loss } = moco.step(...views[exchange.rank]!);
        loss.backward();
        return { loss: loss.detach(), queue: moco.queue.entries(), pointer: moco.queue.pointer };
      });

      // The same by hand: one order for all, each share normalised by itself as plain batch norm does.
      manualSeed(3);
      const alone = small({ batchNorm: 'none', queueSize: 40 });
      alone.pair.update();
      const generator = new Generator({ seed: 11 });
      const start = alone.queue.entries().clone();
      torch.randn(start.shape, { generator });
      const embed = (module: Module, x: Tensor) => functional.normalize(module.forward(x));
      const directions = (symmetric ? [0, 1] : [0]).map((side) => {
        const order = torch.randperm(ranks * values.batch, { generator }).to(device);
        const all = torch.cat(views.map((pair) => pair[1 - side]!)).indexSelect(0, order);
        const shares = noGrad(() => all.split(values.batch).map((share) => embed(alone.pair.key, share)));
        const keys = torch.cat(shares).indexSelect(0, order.argsort()).split(values.batch);
        const infoNce = new InfoNCE({ temperature: values.temperature, normalize: false });
        const losses = views.map((pair, rank) => {
          return infoNce.forward(embed(alone.pair.query, pair[side]!), keys[rank]!, start);
        });
        return { keys, losses };
      });
      const entered = torch.cat(views.flatMap((_, rank) => directions.map(({ keys }) => keys[rank]!)));
      found.forEach(({ loss, queue, pointer }, rank) => {
        const expected = torch.stack(directions.map(({ losses }) => losses[rank]!)).mean();
        assertClose(loss, expected, { atol: 1e-5 });
        assert.equal(pointer, entered.sizeOf(0) % 40);
        assertClose(queue.narrow(0, 0, entered.sizeOf(0)), entered, { atol: 1e-5 });
        assertClose(queue, found[0]!.queue, { atol: 0 });
      });
      // By their order and company alone: without the shuffle other keys come out.
      const unshuffled = noGrad(() => embed(alone.pair.key, views[0]![1]));
      assert.ok(!torch.allclose(found[0]!.queue.narrow(0, 0, values.batch), unshuffled, 1e-3, 1e-3));
    });
  }

  it('refuses views that do not fit, before anything changes', () => {
    const moco = small({ symmetric: true, queueSize: 15 });
    const state = () => [...moco.stateDict().tensors.values()].map(numbers);
    const before = state();
    const [a, b] = viewsOf(0);
    assert.throws(() => moco.step(a, b), {
      constructor: InvalidArgumentError,
      message: /a step of 16 keys \(a batch of 8, both views\) is larger than the queue of 15/,
    });
    assert.throws(
      () => moco.step(a, b.narrow(0, 0, 4)),
      /must have one shape, found \[8, 1, 10, 10\] and \[4, 1, 10, 10\]/,
    );
    assert.throws(() => moco.step(a.narrow(0, 0, 0), b.narrow(0, 0, 0)), /the batch is empty/);
    const exchange = { rank: 0, ranks: 2, allGather: (rows: Tensor) => rows };
    const odd = small({ batchNorm: 'none', exchange, queueSize: 40 });
    assert.throws(() => odd.step(a, b), /the exchange gave 8 keys of 2 ranks with 8 each/);
    assert.throws(
      () => small({ queueSize: 15, exchange }).step(a, b),
      /a step of 16 keys \(a batch of 8, 2 ranks\) is larger than the queue of 15/,
    );
    assert.deepEqual(state(), before);
  });

  it('refuses the state of another objective, before anything changes', () => {
    const [plain, noisy] = [small(), small({ objective: new Noisy() })];
    noisy.step(...viewsOf(0));
    const snapshot = (moco: MoCo): unknown => {
      const { tensors, values: own } = moco.stateDict();
      return [[...tensors].map(([name, tensor]) => [name, numbers(tensor)]), JSON.stringify(own)];
    };
    const before = [snapshot(plain), snapshot(noisy)];
    assert.throws(() => plain.loadStateDict(noisy.stateDict()), {
      constructor: InvalidArgumentError,
      message: /MoCo: the state dict holds the state of an objective: it is of a MoCo with another objective/,
    });
    assert.throws(() => noisy.loadStateDict(plain.stateDict()), /the state dict lacks the state of an objective/);
    const other = small({ objective: new Noisy(), seed: 3 });
    (other.objective as Noisy).calls = 101;
    assert.throws(() => noisy.loadStateDict(other.stateDict()), /Noisy: too many calls/);
    const state = other.stateDict();
    (other.objective as Noisy).calls = 1;
    const damaged = new Map(state.tensors).set('generator.state', torch.zeros([3], { dtype: 'uint8' }));
    assert.throws(() => noisy.loadStateDict({ tensors: damaged, values: other.stateDict().values }));
    assert.deepEqual([snapshot(plain), snapshot(noisy)], before);
  });

  it('refuses options of the default objective beside another, and half a state', () => {
    const objective = new Noisy();
    for (const options of [{ temperature: 0.1 }, { inBatchNegatives: true }]) {
      assert.throws(
        () => small({ objective, ...options }),
        /MoCo: temperature and inBatchNegatives are of the default objective/,
      );
    }
    const contrast: MoCoObjective['contrast'] = (queries) => ({ loss: queries.sum() });
    const half = { contrast, stateDict: () => ({ tensors: new Map<string, Tensor>(), values: {} }) };
    assert.throws(() => small({ objective: half }), /both stateDict and loadStateDict, or neither/);
  });

  it('refuses a state of another architecture, before anything changes', () => {
    const moco = small();
    const before = [...moco.stateDict().tensors.values()].map(numbers);
    const wider = new MoCo({
      encoder: ({ norm2d }) => new ResidualEncoder({ inChannels: 1, widths: [4, 8], norm: norm2d }),
      head: (inputSize) => new ProjectionHead({ inputSize, outputSize: 5 }),
      queueSize: values.queue,
    });
    assert.throws(
      () => moco.loadStateDict(wider.stateDict()),
      /another architecture.*conv1.weight|another architecture/s,
    );
    const { tensors, values: own } = moco.stateDict();
    const without = (name: string): Map<string, Tensor> => {
      const rest = new Map(tensors);
      rest.delete(name);
      return rest;
    };
    assert.throws(
      () => moco.loadStateDict({ tensors: without('queue.keys'), values: own }),
      /Queue: the state dict must hold 'keys'/,
    );
    assert.throws(
      () => moco.loadStateDict({ tensors: without('generator.state'), values: own }),
      /lacks 'generator.state'/,
    );
    assert.throws(() => moco.loadStateDict({ tensors, values: {} }), /the state has no part 'pair'/);
    assert.deepEqual([...moco.stateDict().tensors.values()].map(numbers), before);
  });
});
