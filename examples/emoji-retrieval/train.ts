/** Finds Apple's drawing of an emoji from Google's: `npx jiti examples/emoji-retrieval/train.ts`. See README.md beside this file. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { clip } from 'kontrast/contrast';
import * as data from 'kontrast/data';
import { extractFeatures, nearestNeighbors, rawPixels } from 'kontrast/evaluate';
import { ProjectionHead, ResidualEncoder } from 'kontrast/models';
import { RandomSampler, Sample4GeoSampler } from 'kontrast/negatives';
import { functional, Sequential } from 'kontrast/nn';
import { AdamW, WarmupCosine } from 'kontrast/optim';
import { autocast, Generator, noGrad, scope, torch, type Tensor } from 'kontrast/torch';
import { choosePrecision } from 'kontrast/train';
import { writePicture } from './picture';
import { retrieval, summary, type Retrieval } from './retrieval';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1,2,3' },
    epochs: { type: 'string', default: '30' },
    batch: { type: 'string', default: '64' },
    // Epochs with random negatives before the first mining, and from one mining to the next.
    warmup: { type: 'string', default: '15' },
    every: { type: 'string', default: '3' },
    // How many neighbours follow an emoji into its batch, and among how many they are looked for.
    select: { type: 'string', default: '8' },
    range: { type: 'string', default: '32' },
    temperature: { type: 'string', default: '0.07' },
    // On which part it is measured; settings were chosen on the validation part.
    on: { type: 'string', default: 'test' },
    // Only so many emoji of each part, to try things out.
    limit: { type: 'string', default: 'Infinity' },
    out: { type: 'string', default: 'runs/emoji-retrieval' },
  },
});
const [epochs, batchSize, warmup, every] = (['epochs', 'batch', 'warmup', 'every'] as const).map((name) =>
  Number(values[name]),
) as [number, number, number, number];

const emoji = data.loadEmoji();
const parts = emoji.split({ shares: { train: 0.65, validation: 0.15, test: 0.2 } });
const rowsOf = (part: keyof typeof parts) => parts[part].slice(0, Number(values.limit));
const train = data.emojiVendors.map((vendor) => emoji.of(vendor).subset(rowsOf('train')));
const held = rowsOf(values.on === 'validation' ? 'validation' : 'test');
const google = emoji.of('google').subset(held);
const apple = emoji.of('apple').subset(held);
const families = held.map((row) => emoji.emoji[row]!.family);
const precision = choosePrecision('auto', 'cpu');
const normalize = new data.Normalize({ mean: 0.75, std: 0.3 });
// No flips: some emoji differ in nothing else.
const augmentation = new data.Compose({
  augmentations: [
    new data.RandomResizedCrop({ scale: [0.6, 1], flipProbability: 0 }),
    new data.BrightnessContrast({ brightness: 0.2, contrast: 0.2 }),
    normalize,
  ],
});
const prepare = (images: Tensor): Tensor =>
  normalize.apply(data.toFloat(images), new Generator({ seed: 0 })).contiguous({ memoryFormat: 'channels_last' });

/** One encoder for the drawings of all vendors, so that it can't tell by whom a query is. */
function createEncoder(random: Generator): Sequential {
  const images = new ResidualEncoder({ widths: [16, 32, 64], stemStride: 2, poolSize: 4, generator: random });
  const embedding = new ProjectionHead({ inputSize: images.outputSize, outputSize: 64, layers: 1, generator: random });
  return new Sequential(images, embedding).to({ device: 'cpu', memoryFormat: 'channels_last' });
}

const autocastIn = precision === 'bfloat16' ? 'bfloat16' : undefined;
const embed = (module: Sequential, images: data.ImageSet): Tensor =>
  extractFeatures({ module, images, transform: prepare, batchSize: 500, autocast: autocastIn });

/** An emoji's embedding: the sum of the directions of its drawings. */
const embedAll = (module: Sequential): Tensor =>
  noGrad(() => scope(() => torch.stack(train.map((set) => functional.normalize(embed(module, set)))).sum([0])));

/** Trains on pairs of vendors; all that the two kinds of negatives have in common is here. */
function trainEncoder(negatives: 'random' | 'mined', seed: number): { encoder: Sequential; miningSeconds: number } {
  const random = new Generator({ seed });
  const encoder = createEncoder(random);
  const size = train[0]!.size;
  const stepsPerEpoch = Math.floor(size / batchSize);
  const stepsTotal = Math.round(epochs * stepsPerEpoch);
  const parameters = encoder.parameters();
  const optimizer = new AdamW(
    [
      { parameters: parameters.filter(({ ndim }) => ndim > 1), weightDecay: 1e-2 },
      { parameters: parameters.filter(({ ndim }) => ndim <= 1), weightDecay: 0 },
    ],
    { lr: 3e-3 },
  );
  const schedule = new WarmupCosine({ optimizer, stepsWarmup: Math.min(stepsPerEpoch, stepsTotal), stepsTotal });
  const anywhere = new RandomSampler({ size, batchSize, dropLast: true, seed });
  // Each emoji of a batch brings its hardest negatives along: those nearest to it by the present embeddings, searched exactly.
  const nearby = new Sample4GeoSampler({
    size,
    batchSize,
    neighbourSelect: Number(values.select),
    neighbourRange: Math.min(Number(values.range), size - 1),
    seed,
  });
  let miningSeconds = 0;
  for (let step = 0; step < stepsTotal; step++) {
    const epoch = Math.floor(step / stepsPerEpoch);
    const isMined = negatives === 'mined' && epoch >= warmup;
    if (isMined && step % stepsPerEpoch === 0 && (epoch - warmup) % every === 0) {
      const start = performance.now();
      scope(() => nearby.refresh(embedAll(encoder)));
      miningSeconds += (performance.now() - start) / 1000;
    }
    scope(() => {
      const { indices } = (isMined ? nearby : anywhere).next();
      const rows = torch.fromTypedArray(indices, undefined, { dtype: 'int64' });
      // Two vendors a batch: were each row by others, the positive could be told by its style.
      const [first, second] = torch
        .randperm(train.length, { generator: random, dtype: 'int32' })
        .dataSync() as Int32Array;
      const drawings = torch.cat([first!, second!].map((vendor) => train[vendor]!.images.indexSelect(0, rows)));
      const views = augmentation.apply(data.toFloat(drawings), random).contiguous({ memoryFormat: 'channels_last' });
      const embeddings = autocast({ device: 'cpu', dtype: 'bfloat16', enabled: precision === 'bfloat16' }, () => encoder.forward(views)); // prettier-ignore
      const [one, other] = embeddings.to('float32').chunk(2) as [Tensor, Tensor];
      clip(one, other, { temperature: Number(values.temperature) }).backward();
      optimizer.step();
      optimizer.zeroGrad();
      schedule.step();
    });
  }
  return { encoder, miningSeconds };
}

const percent = (share: number) => (100 * share).toFixed(1);
function print(name: string, { recallAt1, recallAt5, meanReciprocalRank, familyAt1 }: Retrieval, rest = ''): void {
  const numbers = [recallAt1, recallAt5, meanReciprocalRank, familyAt1].map((value) => percent(value).padStart(8));
  console.log(`${name.padEnd(32)}${numbers.join('')}  ${rest}`.trimEnd());
}

console.log(
  `${train[0]!.size} emoji to train on, by ${train.length} vendors; ${google.size} others to find (${values.on})`,
);
console.log(`${''.padEnd(32)}     R@1     R@5     MRR  family, in %`);
print('raw pixels', retrieval(rawPixels(google, prepare), rawPixels(apple, prepare), families));

const seeds = values.seeds.split(',').map(Number);
const untrained = seeds.map((seed) => {
  const encoder = createEncoder(new Generator({ seed }));
  return retrieval(embed(encoder, google), embed(encoder, apple), families);
});
print('untrained encoder, mean', summary(untrained).mean);

const runs: { negatives: 'random' | 'mined'; seed: number; result: Retrieval }[] = [];
/** What the first seed's encoders found for each query. */
const found: Tensor[] = [];
for (const seed of seeds) {
  for (const negatives of ['random', 'mined'] as const) {
    const start = performance.now();
    const { encoder, miningSeconds } = trainEncoder(negatives, seed);
    const seconds = (performance.now() - start) / 1000;
    const [queries, candidates] = [embed(encoder, google), embed(encoder, apple)];
    const result = retrieval(queries, candidates, families);
    runs.push({ negatives, seed, result });
    const mining = negatives === 'mined' ? `, ${miningSeconds.toFixed(0)} s of it mining` : '';
    print(`${negatives} negatives, seed ${seed}`, result, `${seconds.toFixed(0)} s${mining}`);
    if (seed === seeds[0]) found.push(nearestNeighbors({ queries, candidates, k: Math.min(5, apple.size) }).indices);
  }
}

const summaries = (['random', 'mined'] as const).map((negatives) => {
  const numbers = summary(runs.filter((run) => run.negatives === negatives).map(({ result }) => result));
  const { recallAt1, recallAt5, meanReciprocalRank, familyAt1 } = numbers.deviation;
  print(
    `${negatives} negatives, mean`,
    numbers.mean,
    `± ${[recallAt1, recallAt5, meanReciprocalRank, familyAt1].map(percent).join(', ')}`,
  );
  return { negatives, ...numbers };
});

mkdirSync(values.out, { recursive: true });
writeFileSync(join(values.out, 'results.json'), `${JSON.stringify({ options: values, runs, summaries }, null, 2)}\n`);
// Not chosen, but at equal distances.
const shown = Array.from({ length: Math.min(12, google.size) }, (_, line) =>
  Math.floor(((line + 0.5) * google.size) / 12),
);
writePicture(
  join(values.out, 'retrieved.png'),
  shown.map((query) => ({
    query: google.images.select(0, query),
    blocks: found.map((indices) =>
      Array.from(indices.select(0, query).dataSync() as BigInt64Array, Number).map((row) => ({
        drawing: apple.images.select(0, row),
        isRight: row === query,
      })),
    ),
  })),
);
console.log(
  `${join(values.out, 'retrieved.png')}: Google's drawing, then what was found with random and with mined negatives`,
);
