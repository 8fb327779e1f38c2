/** What is behind the loss: how positives and negatives lie, and how many negatives matter. */
import { enableGrad, grad, InvalidArgumentError, noGrad, scope, torch, type Tensor } from '../torch';
import { withoutAutocast } from '../torch/autograd';
import { functional } from '../nn';
import { positiveInteger } from '../nn/checks';
import { contrast, listOf, whatCounts, type ContrastOptions, type ScoreSimilarity } from './contrast';
import { defineLink, type Link, type Need } from './link';
import { masksOf } from './statistics';

/** Similarities of a set of pairs. */
export interface SimilaritySummary {
  /** How many pairs. */
  pairs: number;
  /** Null without pairs. */
  mean: number | null;
  /** Over all pairs, divided by their number. Null without pairs. */
  variance: number | null;
}

/** How similarities are spread. */
export interface PairHistogram {
  /** `bins + 1` numbers. */
  edges: number[];
  /** How many pairs fall in each bin; what lies outside the range counts in the first or last. */
  positives: number[];
  negatives: number[];
}

/** What {@link diagnose} gives; JSON holds it as it is. Similarities are before temperature, bias and margin. */
export interface Diagnosis {
  positives: SimilaritySummary;
  negatives: SimilaritySummary;
  /** The mean over positive pairs of ‖a − p‖², of unit vectors for cosines: 0 is best. Null for dot products and without positives. */
  alignment: number | null;
  /**
   * log of the mean over negative pairs of exp(−2‖a − n‖²), of unit vectors for cosines: lower is more even, 0 is a single point. Null for
   * dot products and without negatives.
   */
  uniformity: number | null;
  /**
   * How many negatives share the gradient: (Σ exp s)² / Σ exp 2s of an anchor's scores, which is 1 if one negative has it all and their
   * number if all have the same; the mean over anchors with negatives. Null without.
   */
  effectiveNegatives: number | null;
  /** The same by entropy: exp(−Σ p log p) with p the softmax over an anchor's negatives. Null without, and at level `'cheap'`. */
  negativePerplexity: number | null;
  /** The mean of an anchor's positives less its most similar negative; the mean over anchors with both. Null without. */
  hardestNegativeMargin: number | null;
  /** The share of anchors with both for which that margin is above 0. Null without. */
  accuracy: number | null;
  /** The share of pairs that are neither positive nor negative: excluded by ids or guides. */
  maskedShare: number;
  /** τ; the mean where there is one for each anchor. */
  temperature: number;
  /** The bias of the scores, or null. */
  bias: number | null;
  /** On request. */
  histogram: PairHistogram | null;
}

/** What {@link diagnose} takes beside the objective. */
export interface DiagnoseOptions {
  /**
   * `'cheap'` (default): one pass through the scores, as forwards; one more where each anchor has a temperature of its own. `'full'`: in
   * addition what takes a pass backwards, {@link Diagnosis.negativePerplexity}.
   */
  level?: 'cheap' | 'full';
  /** Counts similarities in bins: one more pass, dense, some rows at a time. Default: not done. */
  histogram?: {
    /** Default 50. */
    bins?: number;
    /** From where to where. Default: −1 to 1 for cosines; needed for other similarities. */
    range?: readonly [from: number, to: number];
  };
}

/** Of the similarities themselves: at temperature 1, without bias and margin. */
const plainNeeds = {
  positiveCount: { kind: 'count', over: 'positives' },
  negativeCount: { kind: 'count', over: 'negatives' },
  positiveSum: { kind: 'sum', over: 'positives' },
  negativeSum: { kind: 'sum', over: 'negatives' },
  positiveSquares: { kind: 'sumOfSquares', over: 'positives' },
  negativeSquares: { kind: 'sumOfSquares', over: 'negatives' },
  hardest: { kind: 'maximum', over: 'negatives' },
} satisfies Record<string, Need>;

/** The squared distance of unit vectors is 2 − 2s; in uniformity it is taken twice. */
const UNIFORMITY_WIDTH = 2;

/**
 * Numbers about the scores of an objective, for a log: the same options as {@link contrast} takes, without a gradient or a graph. Works tile
 * by tile where the objective does, with memory that does not grow with the number of pairs.
 *
 * The link and reduction do not matter. Anchors are looked at in one direction, also with `symmetric`. Log-weights of candidates are left
 * out of the effective negatives. Variances come from float32 sums of squares: one of less than about 1e-6 of the squared mean is noise.
 *
 * Alignment and uniformity are those of Wang and Isola 2020 ("Understanding Contrastive Representation Learning through Alignment and
 * Uniformity on the Hypersphere"), over the pairs that the objective has instead of all pairs of a data set.
 *
 * @throws InvalidArgumentError as {@link contrast} does, and for a histogram without bins or range
 */
export function diagnose(options: ContrastOptions, how: DiagnoseOptions = {}): Diagnosis {
  const { similarity = 'cosine', temperature = 0.07, bias } = options;
  const range = how.histogram && rangeOf(how.histogram, similarity);
  return noGrad(() =>
    scope(() => {
      const common = taus(temperature);
      const isSingle = common.length === 1;
      const scale = (power: number): Need => ({ kind: 'logSumExp', over: 'negatives', power });
      const asDistance = similarity === 'cosine' ? 2 * UNIFORMITY_WIDTH : UNIFORMITY_WIDTH;
      const plain = collect(
        { ...options, temperature: 1 },
        {
          ...plainNeeds,
          ...(similarity !== 'dot' && { spread: scale(asDistance) }),
          ...(isSingle && { once: scale(1 / common[0]!), twice: scale(2 / common[0]!) }),
        },
      );
      const scaled = isSingle ? plain : collect(options, { once: scale(1), twice: scale(2) });
      const [positives, negatives] = (['positive', 'negative'] as const).map((set) => summary(plain, set)) as [
        SimilaritySummary,
        SimilaritySummary,
      ];
      const pairs = pairsOf(options);
      return {
        positives,
        negatives,
        alignment: alignmentOf(positives.mean, similarity),
        uniformity: uniformityOf(plain.spread, negatives.pairs, similarity),
        effectiveNegatives: meanOf(scaled.once!.mul(2).sub(scaled.twice!).exp(), plain.negativeCount!.gt(0)),
        negativePerplexity: how.level === 'full' ? perplexityOf(options, common) : null,
        ...margins(plain),
        maskedShare: 1 - (positives.pairs + negatives.pairs) / pairs,
        temperature: common.reduce((sum, value) => sum + value, 0) / common.length,
        bias: bias === undefined ? null : bias.itemSync(),
        histogram: range === undefined ? null : histogramOf(options, similarity, range),
      };
    }),
  );
}

function taus(temperature: number | Tensor): number[] {
  if (typeof temperature === 'number') return [temperature];
  return Array.from(temperature.detach().to('float64').dataSync() as Float64Array);
}

function pairsOf({ anchors, candidates, positives, negatives }: ContrastOptions): number {
  const shared = listOf(candidates).reduce((sum, { embeddings }) => sum + embeddings.sizeOf(0), 0);
  const own = (x: Tensor | undefined): number => (x === undefined ? 0 : x.ndim === 2 ? 1 : x.sizeOf(1));
  return anchors.sizeOf(0) * (shared + own(positives) + own(negatives));
}

// --- Statistics ---

/** Statistics of the objective's scores, float64 [N] each, through a link that only looks. */
function collect(options: ContrastOptions, needs: Readonly<Record<string, Need>>): Record<string, Tensor> {
  const found: Record<string, Tensor> = {};
  contrast({ ...options, ...asLooked, link: looking(needs, (name, value) => (found[name] = value.to('float64'))) });
  return found;
}

/** Similarities alone, whatever is made of them. */
const asLooked = { bias: undefined, margin: 0, symmetric: false, reduction: 'none' } as const;

function looking(needs: Readonly<Record<string, Need>>, look: (name: string, value: Tensor) => void): Link {
  return defineLink<string>({
    name: 'diagnosis',
    needs,
    withoutPositives: true,
    loss: (values) => {
      for (const [name, value] of Object.entries(values)) look(name, value);
      return Object.values(values)[0]!;
    },
  });
}

function summary(found: Record<string, Tensor>, set: 'positive' | 'negative'): SimilaritySummary {
  const [pairs, sum, squares] = ['Count', 'Sum', 'Squares'].map((name) => found[set + name]!.sum().itemSync()) as [
    number,
    number,
    number,
  ];
  if (pairs === 0) return { pairs, mean: null, variance: null };
  const mean = sum / pairs;
  return { pairs, mean, variance: Math.max(0, squares / pairs - mean ** 2) };
}

function meanOf(values: Tensor, counted: Tensor): number | null {
  const some = values.maskedSelect(counted);
  return some.numel() === 0 ? null : some.mean().itemSync();
}

function margins(found: Record<string, Tensor>): Pick<Diagnosis, 'hardestNegativeMargin' | 'accuracy'> {
  const both = found.positiveCount!.gt(0).logicalAnd(found.negativeCount!.gt(0));
  const margin = found.positiveSum!.div(found.positiveCount!).sub(found.hardest!);
  return { hardestNegativeMargin: meanOf(margin, both), accuracy: meanOf(margin.gt(0).to('float64'), both) };
}

function alignmentOf(mean: number | null, similarity: ScoreSimilarity): number | null {
  if (mean === null || similarity === 'dot') return null;
  return similarity === 'cosine' ? 2 - 2 * mean : -mean;
}

function uniformityOf(spread: Tensor | undefined, pairs: number, similarity: ScoreSimilarity): number | null {
  if (spread === undefined || pairs === 0) return null;
  // −t‖a − n‖² is 2t·s − 2t for unit vectors, and t·s where s is minus the squared distance already.
  const shift = similarity === 'cosine' ? 2 * UNIFORMITY_WIDTH : 0;
  return spread.logsumexp([0]).itemSync() - shift - Math.log(pairs);
}

/** exp of the entropy, log Z − Σ p·s; the sum is the slope of log Z by the logarithm of 1/τ. */
function perplexityOf(options: ContrastOptions, common: readonly number[]): number | null {
  const count = options.anchors.sizeOf(0);
  const { device } = options.anchors;
  const values = common.length === 1 ? new Array<number>(count).fill(common[0]!) : [...common];
  const temperature = torch.tensor(values, { dtype: 'float64', device }).requiresGrad_();
  return enableGrad(() => {
    const found: Tensor[] = [];
    const link = looking({ total: { kind: 'logSumExp', over: 'negatives' } }, (_, value) => found.push(value));
    contrast({ ...detached(options), ...asLooked, temperature, link });
    const [total] = found as [Tensor];
    const has = total.detach().gt(-Infinity);
    const [slope] = grad(torch.where(has, total, total.newZeros([])).sum(), [temperature]);
    const expected = slope!.mul(temperature.detach()).neg();
    return meanOf(total.detach().to('float64').sub(expected).exp(), has);
  });
}

function detached(options: ContrastOptions): ContrastOptions {
  const { anchors, positives, negatives } = options;
  return {
    ...options,
    anchors: anchors.detach(),
    candidates: listOf(options.candidates).map((one) => ({ ...one, embeddings: one.embeddings.detach() })),
    ...(positives && { positives: positives.detach() }),
    ...(negatives && { negatives: negatives.detach() }),
  };
}

// --- Histograms ---

/** About how many similarities are held at a time. */
const HELD = 1 << 21;

interface Bins {
  readonly bins: number;
  readonly from: number;
  readonly to: number;
}

function rangeOf({ bins = 50, range }: NonNullable<DiagnoseOptions['histogram']>, similarity: ScoreSimilarity): Bins {
  positiveInteger(bins, 'diagnose: bins');
  const [from, to] = range ?? (similarity === 'cosine' ? [-1, 1] : []);
  if (from === undefined || to === undefined || !(from < to && Number.isFinite(to - from))) {
    throw new InvalidArgumentError(
      range === undefined
        ? `diagnose: a histogram of '${similarity}' needs a range`
        : `diagnose: the range of a histogram goes from a number to a greater one, found ${range.join(' to ')}`,
    );
  }
  return { bins, from, to };
}

function histogramOf(options: ContrastOptions, similarity: ScoreSimilarity, { bins, from, to }: Bins): PairHistogram {
  const { anchors } = options;
  const histogram: PairHistogram = {
    edges: Array.from({ length: bins + 1 }, (_, i) => from + ((to - from) * i) / bins),
    positives: new Array<number>(bins).fill(0),
    negatives: new Array<number>(bins).fill(0),
  };
  const add = (set: 'positives' | 'negatives', similarities: Tensor): void => {
    if (similarities.numel() === 0) return;
    const counts = similarities.clamp(from, to).histc(bins, from, to).toArraySync() as number[];
    counts.forEach((count, bin) => (histogram[set][bin]! += count));
  };
  const count = anchors.sizeOf(0);
  const most = pairsOf(options) / count;
  const step = Math.max(1, Math.floor(HELD / most));
  for (let begin = 0; begin < count; begin += step) {
    const size = Math.min(step, count - begin);
    const part = (x: Tensor): Tensor => x.narrow(0, begin, size);
    const rows = part(anchors).unsqueeze(1);
    for (const candidates of listOf(options.candidates)) {
      scope(() => {
        const similarities = similarityOf(rows, candidates.embeddings.unsqueeze(0), similarity).flatten(0, 1);
        const masks = masksOf({
          rows: part(anchors),
          columns: candidates.embeddings,
          ...whatCounts(options, candidates, part),
        });
        for (const set of ['positives', 'negatives'] as const) {
          const mask = masks[set];
          add(set, mask === null ? similarities : similarities.maskedSelect(mask.flatten()));
        }
      });
    }
    for (const set of ['positives', 'negatives'] as const) {
      const own = options[set];
      if (own === undefined) continue;
      const several = part(own.ndim === 2 ? own.unsqueeze(1) : own);
      scope(() => add(set, similarityOf(rows, several, similarity).flatten()));
    }
  }
  return histogram;
}

/** Of rows [n, 1, D] with others [n or 1, M, D]: [n, M]. */
function similarityOf(rows: Tensor, others: Tensor, similarity: ScoreSimilarity): Tensor {
  const dtype = [rows, others].some((x) => x.dtype === 'float64') ? 'float64' : 'float32';
  const [a, b] = [rows, others].map((x) => {
    const wide = x.to({ dtype });
    return similarity === 'cosine' ? functional.normalize(wide) : wide;
  }) as [Tensor, Tensor];
  const products = withoutAutocast(rows, () =>
    b.sizeOf(0) === 1 ? a.squeeze(1).matmul(b.squeeze(0).t()) : b.matmul(a.transpose(1, 2)).squeeze(2),
  );
  if (similarity !== 'euclidean') return products;
  const squares = (x: Tensor): Tensor => x.square().sum([2]);
  return products.mul(2).sub(squares(a)).sub(squares(b));
}
