/** The presets that test/contrast/objectives/all.test.ts runs through the same checks. Add a row here. */
import { clhe } from '../../../src/contrast/objectives/clhe';
import { clip } from '../../../src/contrast/objectives/clip';
import { co2 } from '../../../src/contrast/objectives/co2';
import { conan, cosent } from '../../../src/contrast/objectives/cosent';
import { creamFl } from '../../../src/contrast/objectives/cream-fl';
import { dcl, dclW } from '../../../src/contrast/objectives/dcl';
import { debiased } from '../../../src/contrast/objectives/debiased';
import { dexml, softTopK } from '../../../src/contrast/objectives/dexml';
import { directClr } from '../../../src/contrast/objectives/direct-clr';
import { falseNegativeAttraction, falseNegativeElimination } from '../../../src/contrast/objectives/false-negatives';
import { gist } from '../../../src/contrast/objectives/gist';
import { hardNegative } from '../../../src/contrast/objectives/hard-negative';
import { matryoshka } from '../../../src/contrast/objectives/matryoshka';
import { multipleNegatives } from '../../../src/contrast/objectives/multiple-negatives';
import { nnclr } from '../../../src/contrast/objectives/nnclr';
import { ntXent } from '../../../src/contrast/objectives/nt-xent';
import { saFas } from '../../../src/contrast/objectives/sa-fas';
import { siglip } from '../../../src/contrast/objectives/siglip';
import { socialNce } from '../../../src/contrast/objectives/social-nce';
import { supCon } from '../../../src/contrast/objectives/sup-con';
import { uniClr } from '../../../src/contrast/objectives/uni-clr';
import { Generator, torch, type Tensor } from '../../../src/torch';

/** What the checks vary; pass it on to the objective. */
export interface RowOptions {
  temperature: number | Tensor;
  execution: 'dense' | 'tiled';
}

/** An objective with one setting of its options. */
export interface Row {
  readonly name: string;
  /**
   * Shapes of the tensors that learn, for `samples` and `dimension`. Default: two of [samples, dimension]. Of the last ones there may be
   * more or fewer rows than samples.
   */
  readonly shapes?: (samples: number, dimension: number) => number[][];
  /** The loss, without dimensions. What else it takes (labels, guides) it makes itself, from the shapes alone and alike each time. */
  readonly loss: (inputs: readonly Tensor[], options: RowOptions) => Tensor;
  /** What one sample gives: a number (default 0), `'finite'` for any, or the message of the error. */
  readonly alone?: number | 'finite' | RegExp;
  /** Whether there is a tiled form. Default true. */
  readonly tiled?: boolean;
  /** Whether a temperature learns. Default true. */
  readonly temperature?: boolean;
}

const range = (count: number): Tensor => torch.arange(count, { dtype: 'int64' });
/** Pairs of samples of one class, the last one alone where their number is odd. */
export const pairLabels = (count: number): Tensor => range(count).divide(2, { roundingMode: 'floor' });

/** Normal numbers that get no gradient, alike each time. */
export function fixed(shape: number[]): Tensor {
  return torch.randn(shape, { dtype: 'float64', generator: new Generator({ seed: 7 }) });
}

/** bool [rows, columns]: about a third is true, in most rows some. */
export function someTargets(rows: number, columns: number): Tensor {
  return range(rows).unsqueeze(1).mul(5).add(range(columns).mul(3)).remainder(7).lt(2);
}

export const views = (count: number) => (samples: number, dimension: number) =>
  Array.from({ length: count }, () => [samples, dimension]);

/** Embeddings that are no samples, of the type in which losses are computed. */
const supportOf = (like: Tensor): Tensor =>
  fixed([11, like.sizeOf(1)]).to({ dtype: like.dtype === 'float64' ? 'float64' : 'float32' });

/** A further view, of the type in which losses are computed. */
const supportViewOf = (like: Tensor): Tensor =>
  fixed([like.sizeOf(0), like.sizeOf(1)]).to({ dtype: like.dtype === 'float64' ? 'float64' : 'float32' });

export const rows: readonly Row[] = [
  { name: 'ntXent', loss: (inputs, options) => ntXent(inputs, options) },
  {
    name: 'ntXent, three views, dot product',
    shapes: views(3),
    // The two positives of an anchor share its softmax.
    alone: 'finite',
    loss: (inputs, options) => ntXent(inputs, { ...options, similarity: 'dot' }),
  },
  { name: 'clip', loss: ([a, b], options) => clip(a!, b!, options) },
  { name: 'clip, euclidean', loss: ([a, b], options) => clip(a!, b!, { ...options, similarity: 'euclidean' }) },
  { name: 'siglip', alone: 'finite', loss: ([a, b], options) => siglip(a!, b!, { ...options, bias: -2 }) },
  {
    name: 'supCon',
    shapes: views(1),
    loss: ([a], options) => supCon(a!, pairLabels(a!.sizeOf(0)), options),
  },
  {
    name: 'supCon, sum inside',
    shapes: views(1),
    loss: ([a], options) => supCon(a!, pairLabels(a!.sizeOf(0)), { ...options, sum: 'inside' }),
  },
  {
    name: 'uniClr, without weights',
    shapes: views(4),
    alone: 'finite',
    loss: ([a, b, c, d], options) => uniClr([a!, b!], [c!, d!], { ...options, weightTemperature: null }),
  },
  { name: 'dcl', loss: (inputs, options) => dcl(inputs, options) },
  { name: 'dcl, three views', shapes: views(3), loss: (inputs, options) => dcl(inputs, options) },
  { name: 'dclW', loss: (inputs, options) => dclW(inputs, options) },
  {
    name: 'dclW, three views',
    shapes: views(3),
    loss: (inputs, options) => dclW(inputs, { ...options, normalize: 'sum' }),
  },
  { name: 'debiased', loss: (inputs, options) => debiased(inputs, options) },
  { name: 'debiased, three views', shapes: views(3), loss: (inputs, options) => debiased(inputs, options) },
  { name: 'hardNegative', loss: (inputs, options) => hardNegative(inputs, options) },
  {
    name: 'hardNegative, three views',
    shapes: views(3),
    loss: (inputs, options) => hardNegative(inputs, { ...options, beta: 0.5, tauPlus: 0 }),
  },
  {
    name: 'gist',
    loss: ([a, b], options) => {
      const count = a!.sizeOf(0);
      return gist(a!, b!, { anchors: fixed([count, 3]), positives: fixed([count, 3]).add(0.5) }, options);
    },
  },
  {
    name: 'gist, negatives and a relative margin',
    shapes: (samples, dimension) => [...views(2)(samples, dimension), [samples + 3, dimension]],
    alone: 'finite',
    loss: ([a, b, negatives], options) => {
      const guide = fixed([negatives!.sizeOf(0), 2]);
      const own = guide.narrow(0, 0, a!.sizeOf(0));
      const guides = { anchors: own, positives: own.add(0.3), negatives: guide };
      return gist(a!, b!, guides, { ...options, negatives, margin: 0.1, marginStrategy: 'relative' });
    },
  },
  { name: 'multipleNegatives', loss: ([a, b], options) => multipleNegatives(a!, b!, options) },
  {
    name: 'multipleNegatives, everything in one softmax',
    shapes: (samples, dimension) => [...views(2)(samples, dimension), [samples, 2, dimension]],
    alone: 'finite',
    loss: ([a, b, negatives], options) =>
      multipleNegatives(a!, b!, {
        ...options,
        negatives,
        bothDirections: true,
        contrastAnchors: true,
        contrastPositives: true,
        labelSmoothing: 0.1,
        margin: 0.2,
        falseNegativeMargin: 0.3,
      }),
  },
  {
    name: 'multipleNegatives, per direction, own negatives',
    shapes: (samples, dimension) => [...views(2)(samples, dimension), [samples, 2, dimension]],
    alone: 'finite',
    loss: ([a, b, negatives], options) =>
      multipleNegatives(a!, b!, {
        ...options,
        negatives,
        shareNegatives: false,
        bothDirections: true,
        contrastPositives: true,
        softmax: 'perDirection',
        ids: pairLabels(a!.sizeOf(0)),
        labelSmoothing: 0.3,
      }),
  },
  {
    name: 'dexml, classes',
    shapes: (samples, dimension) => [
      [samples, dimension],
      [2 * samples, dimension],
    ],
    loss: ([a, labels], options) => {
      const classes = { anchors: pairLabels(a!.sizeOf(0)), labels: pairLabels(labels!.sizeOf(0)) };
      return dexml(a!, labels!, classes, options);
    },
  },
  {
    name: 'dexml, a matrix of targets',
    tiled: false,
    shapes: (samples, dimension) => [
      [samples, dimension],
      [samples + 3, dimension],
    ],
    alone: 'finite',
    loss: ([a, labels], { temperature }) =>
      dexml(a!, labels!, someTargets(a!.sizeOf(0), labels!.sizeOf(0)), { temperature, positives: 'sum' }),
  },
  {
    name: 'softTopK',
    tiled: false,
    shapes: (samples, dimension) => [
      [samples, dimension],
      [samples + 3, dimension],
    ],
    alone: 'finite',
    loss: ([a, labels], { temperature }) =>
      softTopK(a!, labels!, someTargets(a!.sizeOf(0), labels!.sizeOf(0)), { temperature, k: 'positives' }),
  },
  {
    name: 'nnclr, both directions',
    loss: ([a, b], options) => nnclr(a!, b!, supportOf(a!), { ...options, bothDirections: true }),
  },
  {
    name: 'matryoshka of clip',
    loss: ([a, b], options) => {
      const dimensions = [a!.sizeOf(1), 1];
      return matryoshka([a!, b!], ([x, y]) => clip(x, y, options), { dimensions, weights: [1, 0.5] });
    },
  },
  { name: 'directClr', loss: ([a, b], options) => directClr(a!, b!, { ...options, dimensions: a!.sizeOf(1) }) },
  {
    name: 'directClr, all views',
    loss: ([a, b], options) => {
      const dimensions = Math.min(2, a!.sizeOf(1));
      return directClr(a!, b!, { ...options, dimensions, candidates: 'allViews' });
    },
  },
  {
    name: 'falseNegativeElimination, one support view',
    loss: ([a, b], options) =>
      falseNegativeElimination([a!, b!], { ...options, support: [supportViewOf(a!)], threshold: 0, topK: 3 }),
  },
  {
    name: 'falseNegativeAttraction',
    loss: (inputs, options) =>
      falseNegativeAttraction(inputs, { ...options, support: [supportViewOf(inputs[0]!)], threshold: 0, topK: 3 }),
  },
  { name: 'co2', tiled: false, loss: ([a, b], { temperature }) => co2(a!, b!, { temperature }) },
  {
    name: 'co2, a queue',
    shapes: (samples, dimension) => [...views(2)(samples, dimension), [samples + 3, dimension]],
    alone: 'finite',
    loss: ([a, b, negatives], options) => co2(a!, b!, { ...options, negatives }),
  },
  {
    name: 'co2, a queue and the positive',
    shapes: (samples, dimension) => [...views(2)(samples, dimension), [samples + 3, dimension]],
    alone: 'finite',
    loss: ([a, b, negatives], options) => co2(a!, b!, { ...options, negatives, includePositive: true }),
  },
  {
    name: 'clhe',
    shapes: (samples, dimension) => [...views(2)(samples, dimension), ...views(2)(samples + 2, dimension)],
    alone: 'finite',
    loss: ([a, b, c, d], { temperature, execution }) =>
      clhe([a!, b!], [c!, d!], { itemTemperature: temperature, bundleTemperature: temperature, execution }),
  },
  {
    name: 'creamFl',
    shapes: views(1),
    alone: 'finite',
    loss: ([a], options) => {
      const [count, dimension] = [a!.sizeOf(0), a!.sizeOf(1)];
      const other = (rows: number): Tensor => fixed([rows, dimension]).to({ dtype: supportOf(a!).dtype });
      const batch = { embeddings: a!, same: other(count + 2), other: other(count + 2), previous: other(count).neg() };
      return creamFl({ ...batch, positions: range(count).add(1) }, { ...options, similarity: 'cosine' });
    },
  },
  {
    name: 'saFas',
    loss: ([a, b], options) => {
      const labels = pairLabels(a!.sizeOf(0));
      return saFas([a!, b!], labels.remainder(2), labels.divide(2, { roundingMode: 'floor' }), options);
    },
  },
  {
    name: 'socialNce',
    tiled: false,
    alone: 'finite',
    shapes: (samples, dimension) => [
      [samples, dimension],
      [samples, 2, dimension],
      [samples, 3, dimension],
    ],
    loss: ([a, b, c], { temperature }) =>
      socialNce(a!, b!, c!, { temperature, valid: someTargets(a!.sizeOf(0), 3).logicalNot() }),
  },
  {
    name: 'cosent',
    tiled: false,
    loss: ([a, b], { temperature }) => cosent(a!, b!, pairLabels(a!.sizeOf(0)), { temperature }),
  },
  {
    name: 'conan',
    shapes: views(4),
    loss: ([a, b, c, d], { temperature, execution }) =>
      conan(
        {
          retrieval: { queries: a!, positives: b! },
          similarity: { first: c!, second: d!, targets: pairLabels(a!.sizeOf(0)) },
        },
        { temperature, similarityTemperature: temperature, execution },
      ),
  },
];
