import assert from 'node:assert/strict';
import { Generator, getThreads, manualSeed, scope, setThreads, torch, type Tensor } from '../../src/torch';
import { Module } from '../../src/nn';
import { MoCo, ProjectionHead, type BatchNormAnswer, type Encoder } from '../../src/models';
import { AdamW } from '../../src/optim';
import { shuffledBatch } from '../../src/norm';
import { numbers } from '../support/close';
import { device } from '../support/device';

const [samples, splits, queueSize, channels, side] = [64, 8, 512, 16, 8];
/** The loss of whoever knows nothing: −log(1 / (1 + K)). */
const chance = Math.log(1 + queueSize);

/**
 * Sees one pixel of each image, in the corner that is blank in every image, after normalisation. Its input is 0 for every
 * sample; all that reaches its output is −μ/σ, the statistics of the batch (or group) the sample was normalised with.
 */
class BlankCorner extends Module implements Encoder {
  readonly outputSize = channels;
  readonly bn1: Module;

  constructor(norm: (features: number) => Module) {
    super();
    this.bn1 = norm(channels);
  }

  override forward(x: Tensor): Tensor {
    return this.bn1.forward(x).select(3, 0).select(2, 0);
  }
}

/** Random images with a blank first row and column. */
function images(generator: Generator): Tensor {
  const brightness = torch.randn([samples, channels, 1, 1], { generator });
  const content = torch.randn([samples, channels, side - 1, side - 1], { generator }).add(brightness);
  return content.constantPadNd([1, 0, 1, 0]).to({ device });
}

/** The "other view" of each image is its neighbour in the group: another image, so the pair shares nothing but company. */
function neighbours(x: Tensor): Tensor {
  return x
    .view([splits, samples / splits, channels * side * side])
    .roll([1], [1])
    .view(x.shape);
}

/** Trains for some tens of steps and gives the mean loss and accuracy over steps after that. */
function train(batchNorm: BatchNormAnswer, seed: number): { loss: number; accuracy: number } {
  manualSeed(seed);
  const moco = new MoCo({
    encoder: ({ norm2d }) => new BlankCorner(norm2d),
    head: (inputSize) => new ProjectionHead({ inputSize, hiddenSize: 32, outputSize: 16 }),
    queueSize,
    temperature: 0.05,
    // The key encoder stands still, so that the age of a key tells nothing.
    momentum: 1,
    batchNorm,
    splits,
    seed,
    device,
  });
  const optimizer = new AdamW(moco.parameters(), { lr: 3e-3 });
  const generator = new Generator({ seed: seed + 100 });
  const [trained, measured] = [150, 40];
  const mean = { loss: 0, accuracy: 0 };
  for (let step = 0; step < trained + measured; step++) {
    scope(() => {
      const x = images(generator);
      const { loss, accuracy } = moco.step(x, neighbours(x));
      if (step < trained) {
        optimizer.zeroGrad();
        loss.backward();
        optimizer.step();
      } else {
        mean.loss += loss.itemSync() / measured;
        mean.accuracy += accuracy.itemSync() / measured;
      }
    });
  }
  optimizer.dispose();
  moco.dispose();
  return mean;
}

/**
 * The leak of batch normalisation in momentum contrast (He et al. 2020, section 3.3), alone: pairs share no content and the
 * encoder sees no content, so nothing is to be learnt except which keys were normalised in the query's company. What is
 * shown is that this path exists, that training finds it, and that the answers close it; not how much it hurts a real task.
 */
describe('batch-norm leak', () => {
  let threads: number;
  before(() => {
    threads = getThreads();
    setThreads(1);
  });
  after(() => setThreads(threads));

  for (const seed of [1, 2, 3]) {
    it(`is real without an answer, and with groups that are not shuffled (seed ${seed})`, () => {
      const none = train('none', seed);
      assert.ok(none.loss < chance - 1, `none: loss ${none.loss}, chance ${chance}`);
      assert.ok(none.accuracy > 0.4, `none: accuracy ${none.accuracy}`);
      const split = train('split', seed);
      assert.ok(split.loss < chance - 3, `split: loss ${split.loss}, chance ${chance}`);
      assert.ok(split.accuracy > 0.7, `split: accuracy ${split.accuracy}`);
    });

    it(`is closed by shuffled groups (seed ${seed})`, () => {
      const { loss, accuracy } = train('shuffle-split', seed);
      assert.ok(loss > chance - 0.3, `loss ${loss}, chance ${chance}`);
      assert.ok(accuracy < 0.1, `accuracy ${accuracy}`);
    });

    it(`is closed by moving averages in the key encoder (seed ${seed})`, () => {
      // All keys are equal then, so every similarity is a tie and the loss is exactly chance.
      const { loss } = train('eman', seed);
      assert.ok(Math.abs(loss - chance) < 1e-3, `loss ${loss}, chance ${chance}`);
    });
  }

  it('is as strong as the groups of query and key are alike: 1 without the shuffle, about 1/s + s/N with it', () => {
    const generator = new Generator({ seed: 9 });
    const correlation = (shuffle: boolean): number => {
      const [a, b]: [number[], number[]] = [[], []];
      for (let draw = 0; draw < 40; draw++) {
        scope(() => {
          const x = torch.randn([samples], { generator });
          const groupMeans = (values: Tensor): Tensor =>
            values
              .view([splits, -1])
              .mean([1], true)
              .expand([splits, samples / splits])
              .reshape([samples]);
          a.push(...numbers(groupMeans(x)));
          b.push(...numbers(shuffle ? shuffledBatch(x, groupMeans, { generator }) : groupMeans(x)));
        });
      }
      const product = (p: number[], q: number[]) => p.reduce((sum, value, index) => sum + value * q[index]!, 0);
      return product(a, b) / Math.sqrt(product(a, a) * product(b, b));
    };
    assert.ok(Math.abs(correlation(false) - 1) < 1e-6);
    assert.ok(Math.abs(correlation(true) - (1 / splits + splits / samples)) < 0.06, `${correlation(true)}`);
  });
});
