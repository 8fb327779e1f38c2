/** The presets that test/contrast/objectives/all.test.ts runs through the same checks. Add a row here. */
import { clip } from '../../../src/contrast/objectives/clip';
import { dcl, dclW } from '../../../src/contrast/objectives/dcl';
import { debiased } from '../../../src/contrast/objectives/debiased';
import { dexml, softTopK } from '../../../src/contrast/objectives/dexml';
import { gist } from '../../../src/contrast/objectives/gist';
import { hardNegative } from '../../../src/contrast/objectives/hard-negative';
import { multipleNegatives } from '../../../src/contrast/objectives/multiple-negatives';
import { ntXent } from '../../../src/contrast/objectives/nt-xent';
import { siglip } from '../../../src/contrast/objectives/siglip';
import { supCon } from '../../../src/contrast/objectives/sup-con';
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
];
