/** MoCHi: negatives mixed of the hardest of a queue. */
import { functional } from '../../nn';
import { integerFrom, positiveInteger } from '../../nn/checks';
import {
  defineFunction,
  InvalidArgumentError,
  isGradEnabled,
  noGrad,
  ops,
  scope,
  torch,
  type Generator,
  type Tensor,
} from '../../torch';
import { withoutAutocast } from '../../torch/autograd';
import { jsonNumber, jsonObject, type StateDict } from '../../torch/state';
import { softplus } from '../../contrast/logarithms';
import {
  checkDevice,
  checkNumber,
  checkPaired,
  reduced,
  widened,
  type Reduction,
} from '../../contrast/objectives/parts';
import { checkEmbeddings } from '../../contrast/similarity';
import { Randomised } from '../randomised';

/** What a {@link MoCHi} is made from. */
export interface MoCHiOptions {
  /** N: of how many of a query's hardest negatives mixes are made, at most those that there are. Default 1024. */
  hardest?: number;
  /** s: how many mixes of two of them each query gets. Default 1024. */
  pairs?: number;
  /** s′: how many mixes of one of them with the query itself. Default 128. */
  withQuery?: number;
  /** After how many calls mixing starts: the paper trains some epochs without. Default 0. */
  warmup?: number;
  /** Seeds the draws, or where they come from. Default 0. */
  seed?: number | bigint | Generator;
}

/** What {@link MoCHi.loss} takes beside the embeddings. */
export interface MoCHiLossOptions {
  /** τ. Default 0.2, as MoCo v2 and the paper have it. */
  temperature?: number;
  /** Whether to scale embeddings to length one first. Default true; false where they are already, or are not meant to be, as after {@link FeatureTransformation}. */
  normalize?: boolean;
  /**
   * Which of the queue count as negatives themselves: `'all'`, as in the paper, or the `'hardest'` N only, which filters the queue as
   * "Momentum Contrastive Learning with Enhanced Negative Sampling and Hard Negative Filtering" does and is quicker. Default `'all'`.
   */
  keep?: 'all' | 'hardest';
  /** `'mean'` (default) over the queries, `'sum'`, or `'none'` for one loss a query. */
  reduction?: Reduction;
}

/** The loss and what it is made of. All but the loss have no gradient. */
export interface MoCHiParts {
  /** No dimensions, or [N] without reduction. */
  loss: Tensor;
  /** [N]: the similarity of each query with its positive. */
  positives: Tensor;
  /** [N]: that with the nearest of the queue. */
  nearest: Tensor;
  /** [N]: the largest with a mix; −∞ during warm-up. */
  nearestMix: Tensor;
}

/** The draws of one call. Positions are among a query's hardest. */
interface Draws {
  /** int64 [N, 2s + s′]: the first of each pair, the second, and those mixed with the query. */
  positions: Tensor;
  /** [N, s]: the first one's share α. */
  alpha: Tensor;
  /** [N, s′]: the query's share β, below ½. */
  beta: Tensor;
}

/** Scores that are held at once, and numbers of mixes: as many as a processor's caches hold, more where there is no cache to speak of. */
const CHUNKS = { cpu: { scores: 1 << 21, mixes: 1 << 20 }, other: { scores: 1 << 26, mixes: 1 << 26 } };

/**
 * MoCHi (Kalantidis, Sariyildiz, Pion, Weinzaepfel and Larlus 2020, "Hard Negative Mixing for Contrastive Learning"): negatives made while
 * training, harder than those that the queue happens to hold. For each query q, of its N nearest n₁ … n_N in the queue,
 *
 *     hₖ  = h̃ₖ / ‖h̃ₖ‖,    h̃ₖ  = αₖ nᵢ + (1 − αₖ) nⱼ,   αₖ uniform in (0, 1),   k = 1 … s
 *     h′ₖ = h̃′ₖ / ‖h̃′ₖ‖,   h̃′ₖ = βₖ q + (1 − βₖ) nⱼ,    βₖ uniform in (0, ½),   k = 1 … s′
 *
 * with i and j drawn uniformly and independently, for each mix anew. The mixes are further negatives of that query; no gradient flows
 * through them, the query in h′ included, only through the query that they are compared with.
 *
 * {@link MoCHi.negatives} gives the mixes to the engine ({@link contrast}, as `negatives`): [N, s + s′, D], which for the paper's numbers is
 * 150 MB at 256 queries. {@link MoCHi.loss} is InfoNCE with them, to the same value and gradients, without holding them: the similarity of a
 * query with a mix follows from those with its parts.
 *
 * The paper names settings MoCHi (N, s, s′), with 1024, 1024, 128 among the best, a queue of 16,384, and 10 epochs of ImageNet-100 (15 of
 * ImageNet-1K) without mixes: from memory. The formulas were checked against an independent implementation.
 *
 * For self-supervised training where the queue's negatives have become easy.
 */
export class MoCHi extends Randomised {
  readonly hardest: number;
  readonly pairs: number;
  readonly withQuery: number;
  readonly warmup: number;
  #calls = 0;

  constructor(options: MoCHiOptions = {}) {
    const { hardest = 1024, pairs = 1024, withQuery = 128, warmup = 0, seed = 0 } = options;
    super('MoCHi', seed);
    this.hardest = positiveInteger(hardest, 'MoCHi: hardest');
    this.pairs = integerFrom(0, pairs, 'MoCHi: pairs');
    this.withQuery = integerFrom(0, withQuery, 'MoCHi: withQuery');
    this.warmup = integerFrom(0, warmup, 'MoCHi: warmup');
    if (pairs + withQuery === 0)
      throw new InvalidArgumentError('MoCHi: pairs and withQuery are both 0: nothing is mixed');
  }

  /** How many calls there were; each is a step. */
  get calls(): number {
    return this.#calls;
  }

  /**
   * The mixes of each query: own negatives for the engine.
   *
   * @param queries [N, D], of any floating-point dtype
   * @param queue [K, D]
   * @returns [N, s + s′, D] of length one, pairs first, without gradients, float32 or float64; undefined during warm-up
   * @throws InvalidArgumentError if shapes or devices do not fit, before anything changes
   */
  negatives(queries: Tensor, queue: Tensor): Tensor | undefined {
    checkAgainst(queries, queue, 'MoCHi');
    if (this.#calls++ < this.warmup) return undefined;
    return withoutAutocast(queries, () =>
      noGrad(() =>
        scope(() => {
          const [q, keys] = widened(queries, queue).map((x) => functional.normalize(x)) as [Tensor, Tensor];
          const { positions, alpha, beta } = this.#draw(q, keys);
          const nearest = hardestOf(q, keys, this.hardest);
          const rows = keys.indexSelect(0, nearest.gather(1, positions).flatten()).view([...positions.shape, -1]);
          const [first, second, own] = rows.split([this.pairs, this.pairs, this.withQuery], 1) as [
            Tensor,
            Tensor,
            Tensor,
          ];
          const mixes = [second.lerp(first, alpha.unsqueeze(2)), own.lerp(q.unsqueeze(1), beta.unsqueeze(2))];
          return functional.normalize(torch.cat(mixes, 1));
        }),
      ),
    );
  }

  /**
   * InfoNCE over the queue and the mixes:
   *
   *     lossᵢ = −log( exp(sᵢ⁺/τ) / ( exp(sᵢ⁺/τ) + Σ_queue exp(qᵢ·n/τ) + Σ_mixes exp(qᵢ·h/τ) ) )
   *
   * @param queries [N, D], of any floating-point dtype
   * @param positives [N, D]: row i is the key of query i
   * @param queue [K, D]; has no gradient
   * @throws InvalidArgumentError if shapes, devices or the temperature do not fit, before anything changes
   */
  loss(queries: Tensor, positives: Tensor, queue: Tensor, options: MoCHiLossOptions = {}): Tensor {
    return this.parts(queries, positives, queue, options).loss;
  }

  /** The loss and what it is made of; takes the same as {@link MoCHi.loss}. */
  parts(queries: Tensor, positives: Tensor, queue: Tensor, options: MoCHiLossOptions = {}): MoCHiParts {
    const { temperature = 0.2, normalize = true, keep = 'all', reduction = 'mean' } = options;
    checkPaired(queries, positives, 'MoCHi', ['queries', 'positives']);
    checkAgainst(queries, queue, 'MoCHi');
    checkNumber(temperature, 'MoCHi: temperature', { above: true });
    const mixing = this.#calls++ >= this.warmup;
    return withoutAutocast(queries, () =>
      scope(() => {
        const wide = widened(queries, positives, queue.detach());
        const [q, positive, keys] = normalize ? wide.map((x) => functional.normalize(x)) : wide;
        const settings: Settings = { temperature, hardest: this.hardest, filter: keep === 'hardest' };
        const draws = mixing ? this.#draw(q!, keys!) : undefined;
        const [losses, own, nearest, nearestMix] = mixedLoss(q!, positive!, keys!, settings, draws);
        return { loss: reduced(losses, reduction), positives: own, nearest, nearestMix };
      }),
    );
  }

  /** The state of the random numbers, and how many calls there were. */
  override stateDict(): StateDict {
    return { ...super.stateDict(), values: { calls: this.#calls } };
  }

  override checkStateDict(state: StateDict): void {
    super.checkStateDict(state);
    const what = 'MoCHi: the state dict';
    integerFrom(0, jsonNumber(jsonObject(state.values, what), 'calls', what), `${what}: calls`);
  }

  override loadStateDict(state: StateDict): void {
    super.loadStateDict(state);
    this.#calls = jsonNumber(jsonObject(state.values, 'MoCHi'), 'calls', 'MoCHi');
  }

  #draw(queries: Tensor, keys: Tensor): Draws {
    const [count, { pairs, withQuery }] = [queries.sizeOf(0), this];
    const among = Math.min(this.hardest, keys.sizeOf(0));
    const { generator } = this;
    const positions = torch.randint(among, [count, 2 * pairs + withQuery], {
      dtype: 'int64',
      generator,
      device: generator.device,
    });
    const shares = torch.rand([count, pairs + withQuery], { dtype: 'float32', generator, device: generator.device });
    const [alpha, beta] = shares.to({ dtype: queries.dtype, device: queries.device }).split([pairs, withQuery], 1);
    return { positions: positions.to(queries.device), alpha: alpha!, beta: beta!.mul(0.5) };
  }
}

function checkAgainst(queries: Tensor, queue: Tensor, what: string): void {
  checkEmbeddings(queries, `${what}: queries`);
  checkEmbeddings(queue, `${what}: queue`, queries.sizeOf(1));
  checkDevice(queue, queries, `${what}: queue`);
}

function chunksFor({ device }: Tensor): { scores: number; mixes: number } {
  return device === 'cpu' ? CHUNKS.cpu : CHUNKS.other;
}

function rowsAtOnce(queries: Tensor, keys: Tensor): number {
  return Math.max(1, Math.floor(chunksFor(queries).scores / keys.sizeOf(0)));
}

/** The places of each query's nearest, as {@link largest} orders them: int64 [N, min(count, K)]. */
function hardestOf(queries: Tensor, keys: Tensor, count: number): Tensor {
  const among = Math.min(count, keys.sizeOf(0));
  const chunks = queries.split(rowsAtOnce(queries, keys));
  return torch.cat(chunks.map((some) => scope(() => largest(some.matmul(keys.t()), among)[1])));
}

/** Each row's `count` largest and their places: in the order of places on the CPU, in one that means nothing elsewhere. */
function largest(scores: Tensor, count: number): readonly [values: Tensor, places: Tensor] {
  if (scores.device !== 'cpu') return scores.topk(count, 1, true, false);
  return ops.kontrast!.largest!(scores, count) as [Tensor, Tensor];
}

interface Settings {
  temperature: number;
  hardest: number;
  filter: boolean;
}

type Results = readonly [losses: Tensor, positives: Tensor, nearest: Tensor, nearestMix: Tensor];

const lossFunction = defineFunction<[Tensor, Tensor, Tensor, Settings, Draws | undefined], Results, null>({
  name: 'MoCHi',
  forward(context, queries, positives, keys, settings, draws) {
    const [forQueries, forPositives] = context.needsGradient as readonly [boolean, boolean];
    const rows = rowsAtOnce(queries, keys);
    const squares = keys.square().sum([1]);
    const wanted = forQueries || forPositives;
    const chunks: Tensor[][] = [];
    for (let from = 0; from < queries.sizeOf(0); from += rows) {
      const count = Math.min(rows, queries.sizeOf(0) - from);
      const part = (x: Tensor): Tensor => x.narrow(0, from, count);
      const own = draws && { positions: part(draws.positions), alpha: part(draws.alpha), beta: part(draws.beta) };
      chunks.push(scope(() => lossOfRows(part(queries), part(positives), keys, squares, settings, own, wanted)));
    }
    const joined = (i: number): Tensor => torch.cat(chunks.map((chunk) => chunk[i]!));
    const results = [0, 1, 2, 3].map(joined);
    context.markNonDifferentiable(...results.slice(1));
    if (wanted) context.save(joined(4), joined(5));
    return results as unknown as Results;
  },
  backward(context, gradient) {
    if (isGradEnabled()) {
      throw new InvalidArgumentError(
        'MoCHi: the loss is differentiable once; for gradients of gradients give its negatives to contrast()',
      );
    }
    const each = gradient!.unsqueeze(1);
    return context.saved.map((slope) => slope.mul(each));
  },
});

function mixedLoss(...given: [Tensor, Tensor, Tensor, Settings, Draws | undefined]): Results {
  return lossFunction(...given);
}

/**
 * Losses of some rows and, if wanted, their gradients. All scores of the chunk are made once and turned into weights in place; the weight of a
 * mix is handed on to the keys that it is made of, so that one product with the queue gives the whole gradient.
 */
function lossOfRows(
  queries: Tensor,
  positives: Tensor,
  keys: Tensor,
  squares: Tensor,
  { temperature, hardest, filter }: Settings,
  draws: Draws | undefined,
  wanted: boolean,
): Tensor[] {
  const scores = queries.matmul(keys.t());
  const own = queries.mul(positives).sum([1]);
  const needsHardest = draws !== undefined || filter;
  const [values, places] = needsHardest ? largest(scores, Math.min(hardest, keys.sizeOf(0))) : [undefined, undefined];
  const nearest = (values ?? scores).amax([1]);
  const mixes = draws && mixesOf(queries, keys, squares, values!, places!, draws);
  const nearestMix = mixes?.scores.amax([1]);
  const most = (nearestMix === undefined ? nearest : nearest.maximum(nearestMix)).unsqueeze(1);
  const exponentials = (x: Tensor): Tensor => x.sub_(most).div_(temperature).exp_();
  // The scores themselves are needed no longer, nor are the values of the nearest once mixes are made.
  const counted = exponentials(filter ? values!.clone() : scores);
  const mixed = mixes && exponentials(mixes.scores.clone());
  const sum = mixed === undefined ? counted.sum([1]) : counted.sum([1]).add(mixed.sum([1]));
  const others = sum.log().add(most.squeeze(1).div(temperature));
  const behind = others.sub(own.div(temperature));
  const results = [softplus(behind), own, nearest, nearestMix ?? nearest.sub(Infinity)];
  if (!wanted) return results;
  const pull = behind.sigmoid().div(temperature).unsqueeze(1);
  const scale = pull.div(sum.unsqueeze(1));
  counted.mul_(scale);
  let slope = positives.mul(pull).neg();
  let among = filter ? counted : undefined;
  if (mixes !== undefined) {
    const { positions, parts, queryParts } = mixes;
    const weights = mixed!.mul_(scale);
    const [pairs, withQuery] = weights.split([draws!.alpha.sizeOf(1), draws!.beta.sizeOf(1)], 1) as [Tensor, Tensor];
    among ??= torch.zerosLike(values!);
    among.scatterAdd_(1, positions, torch.cat([pairs, pairs, withQuery], 1).mul_(parts));
    slope = slope.add(queries.mul(withQuery.mul(queryParts).sum([1], true)));
  }
  const weights = filter ? torch.zerosLike(scores) : counted;
  if (among !== undefined) weights.scatterAdd_(1, places!, among);
  return [...results, slope.add_(weights.matmul(keys)), queries.mul(pull).neg()];
}

/** Similarities of mixes with their query, [C, s + s′], and how much of each part is in them: what the gradient needs. */
interface Mixes {
  scores: Tensor;
  /** int64 [C, 2s + s′]: places among the hardest. */
  positions: Tensor;
  /** [C, 2s + s′]: α/‖h̃‖, (1 − α)/‖h̃‖ and (1 − β)/‖h̃′‖. */
  parts: Tensor;
  /** [C, s′]: β/‖h̃′‖. */
  queryParts: Tensor;
}

function mixesOf(
  queries: Tensor,
  keys: Tensor,
  squares: Tensor,
  values: Tensor,
  places: Tensor,
  { positions, alpha, beta }: Draws,
): Mixes {
  const sizes = [alpha.sizeOf(1), alpha.sizeOf(1), beta.sizeOf(1)];
  const [first, second, single] = values.gather(1, positions).split(sizes, 1) as [Tensor, Tensor, Tensor];
  const chosen = places.gather(1, positions);
  const [i, j, k] = chosen.split(sizes, 1) as [Tensor, Tensor, Tensor];
  const rest = alpha.neg().add_(1);
  const inverse = pairLengths(keys, i, j, alpha, rest).clampMin_(LEAST_LENGTH).reciprocal_();
  const parts = [alpha.mul(inverse), rest.mul(inverse)] as const;
  // ‖βq + (1 − β)n‖² from the scores alone.
  const square = queries.square().sum([1], true);
  const left = beta.neg().add_(1);
  const lengths = beta
    .square()
    .mul(square)
    .add(beta.mul(left).mul(single).mul(2))
    .add(left.square().mul(squares.take(k)))
    .clampMin_(0)
    .sqrt_()
    .clampMin_(LEAST_LENGTH);
  const [queryParts, leftParts] = [beta.div(lengths), left.div(lengths)];
  const scores = [first.mul(parts[0]).add_(second.mul(parts[1])), queryParts.mul(square).add_(leftParts.mul(single))];
  return { scores: torch.cat(scores, 1), positions, parts: torch.cat([...parts, leftParts], 1), queryParts };
}

const LEAST_LENGTH = 1e-12;

/** ‖α nᵢ + (1 − α) nⱼ‖: [C, s]. */
function pairLengths(keys: Tensor, i: Tensor, j: Tensor, alpha: Tensor, rest: Tensor): Tensor {
  if (i.numel() === 0) return torch.zerosLike(alpha);
  if (keys.device === 'cpu') return ops.kontrast!.pair_lengths!(keys, i, j, alpha) as Tensor;
  const places = torch.stack([i, j], 2).flatten();
  const shares = torch.stack([alpha, rest], 2).flatten();
  const atOnce = Math.max(1, Math.floor(chunksFor(keys).mixes / keys.sizeOf(1)));
  const lengths: Tensor[] = [];
  for (let from = 0; from < i.numel(); from += atOnce) {
    const count = Math.min(atOnce, i.numel() - from);
    lengths.push(
      scope(() => {
        const offsets = torch.arange(0, 2 * count, 2, { dtype: 'int64', device: i.device });
        const [mixed] = torch.embeddingBag(keys, places.narrow(0, 2 * from, 2 * count), offsets, {
          mode: SUM,
          perSampleWeights: shares.narrow(0, 2 * from, 2 * count),
        });
        return mixed.linalgVectorNorm(2, [1]);
      }),
    );
  }
  return torch.cat(lengths).view(i.shape);
}

/** The code number of `embedding_bag` for sums. */
const SUM = 0;
