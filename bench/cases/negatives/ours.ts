/** One training step of momentum contrast, with the queue's negatives or with mixed ones. */
import { InfoNCE } from '../../../src/contrast';
import { functional } from '../../../src/nn';
import { EncoderWithHead, MoCo, ProjectionHead, ResidualEncoder } from '../../../src/models';
import { FeatureTransformation, MoCHi } from '../../../src/negatives/mixing';
import { shuffledBatch } from '../../../src/norm';
import { AdamW } from '../../../src/optim';
import { Generator, manualSeed, noGrad, scope, setThreads, torch, type Tensor } from '../../../src/torch';
import { versions } from '../../harness/kontrast';
import { serve } from '../../harness/serve';
import { encoders, recipe, type EncoderName, type Method } from './recipe';

interface Setup {
  moco: MoCo;
  optimizer: AdamW;
  views: readonly [Tensor, Tensor];
}

const setups = new Map<EncoderName, Setup>();
const generator = new Generator({ seed: 1 });
const infoNce = new InfoNCE({ temperature: recipe.temperature, normalize: false });
const mochi = new MoCHi({ ...recipe.mochi, seed: 2 });
const transformation = new FeatureTransformation({ seed: 3 });
let method: Method = 'queue';

function setupFor(name: EncoderName): Setup {
  const known = setups.get(name);
  if (known !== undefined) return known;
  const { widths, embeddingSize, queueSize, temperature, momentum, splits, batch, imageSize, learningRate } = recipe;
  manualSeed(1);
  const moco = new MoCo({
    encoder: ({ norm2d }) => new ResidualEncoder({ inChannels: 1, widths, ...encoders[name], norm: norm2d }),
    head: (inputSize, { norm1d }) => new ProjectionHead({ inputSize, outputSize: embeddingSize, norm: norm1d }),
    queueSize,
    temperature,
    momentum: () => momentum,
    splits,
    memoryFormat: 'channels_last',
  });
  const optimizer = new AdamW([{ parameters: moco.parameters() }], { lr: learningRate });
  const view = (): Tensor => torch.randn([batch, 1, imageSize, imageSize]);
  const setup: Setup = { moco, optimizer, views: [view(), view()] };
  setups.set(name, setup);
  return setup;
}

const embed = (network: EncoderWithHead, images: Tensor): Tensor => functional.normalize(network.forward(images));

function lossOf({ moco }: Setup, queries: Tensor, keys: Tensor): Tensor {
  const { temperature } = recipe;
  const queue = moco.queue.entries();
  // The gradient needs the queue as it was; what MoCHi and FT make of it are copies already.
  if (method === 'queue') return infoNce.forward(queries, keys, queue.clone());
  if (method === 'mochi') return mochi.loss(queries, keys, queue, { temperature, normalize: false });
  const moved = transformation.apply(queries, keys, queue);
  const keep = method === 'mochi, ft' ? 'all' : 'hardest';
  return mochi.loss(moved.queries, moved.keys, moved.negatives, { temperature, normalize: false, keep });
}

/** The step of {@link MoCo}, without its statistics, for every method alike. */
function trainStep(setup: Setup): number {
  const { moco, optimizer, views } = setup;
  return scope(() => {
    moco.pair.update();
    const keys = noGrad(() => shuffledBatch(views[1], (x) => embed(moco.pair.key, x), { generator }));
    const loss = lossOf(setup, embed(moco.pair.query, views[0]), keys);
    moco.queue.enqueue(keys);
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    return loss.itemSync();
  });
}

void serve({
  prepare(options) {
    setThreads(Number(options.threads));
    method = options.method as Method;
    return { ...versions(), precision: 'float32' };
  },
  run(options) {
    const setup = setupFor(options.encoder as EncoderName);
    const start = performance.now();
    for (let step = 0; step < recipe.steps; step++) {
      const loss = trainStep(setup);
      if (!Number.isFinite(loss)) throw new Error(`the loss with ${method} is ${loss}`);
    }
    const seconds = (performance.now() - start) / 1000;
    // Losses differ by the method; that they are numbers was checked.
    return { seconds, items: recipe.steps, result: [recipe.steps] };
  },
});
