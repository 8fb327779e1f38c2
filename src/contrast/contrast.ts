/** The contrastive engine: similarity, scale, candidates, pairs, weights and link, put together. */
import { InvalidArgumentError, torch, type Tensor } from '../torch';
import { withoutAutocast } from '../torch/autograd';
import { functional } from '../nn';
import { chooseExecution, type ExecutionChoice } from './execution';
import { softmaxLink, type Link, type LinkContext, type Need } from './link';
import { addLogarithms } from './logarithms';
import { positiveInteger } from '../nn/checks';
import { checkEmbeddings } from './similarity';
import { checkStatistics, pairStatistics, statisticOf, type Execution, type Pairs, type Statistic } from './statistics';

/** How alike two embeddings are, before the temperature: the cosine, the dot product, or minus the squared distance. */
export type ScoreSimilarity = 'cosine' | 'dot' | 'euclidean';

/** Embeddings that all anchors are compared with, and what says which of them are positives or do not count. */
export interface Candidates {
  /** [M, D]. Detach those that shall not learn: a queue, a bank, a frozen tower. */
  embeddings: Tensor;
  /** int64 [M]: a candidate with an anchor's label is its positive. Default: none is. */
  labels?: Tensor;
  /** int64 [M]: a candidate with an anchor's id does not count for it, as for the anchor itself. */
  ids?: Tensor;
  /** [M, E]: a guide's embeddings, as long as they should be for dot products. See {@link ContrastOptions.guides}. */
  guides?: Tensor;
  /** [M]: added to the scores of negatives in softmax links: the logarithm of how much a candidate weighs. */
  logWeights?: Tensor;
}

/** What {@link contrast} takes. */
export interface ContrastOptions {
  /** [N, D]: what has a loss each. */
  anchors: Tensor;
  /** What they are compared with; several are taken together, as one list of candidates would be. */
  candidates?: Candidates | readonly Candidates[];
  /** int64 [N] */
  labels?: Tensor;
  /** int64 [N] */
  ids?: Tensor;
  /** [N, E]: a guide's embeddings of the anchors. A negative whose dot product by the guide is above an anchor's limit does not count. */
  guides?: Tensor;
  /** [N]; needed with guides. */
  guideLimits?: Tensor;
  /** Each anchor's own positives: [N, D] or [N, P, D]. */
  positives?: Tensor;
  /** Each anchor's own negatives: [N, K, D]. */
  negatives?: Tensor;
  /** Default `'cosine'`. */
  similarity?: ScoreSimilarity;
  /** τ, by which similarities are divided: a number, or a tensor that may learn, of one element or one an anchor, [N]. Default 0.07. */
  temperature?: number | Tensor;
  /** Added to every score, a tensor of one element that may learn. Default: nothing. */
  bias?: Tensor;
  /** Taken off the scores of positives, after the temperature. Default 0. */
  margin?: number;
  /**
   * Only so many of each anchor's negatives count: those with the greatest scores, and those that equal the last of them. Several sets of
   * candidates are taken together for it. For links that do not look at all pairs at once; not with candidates' log-weights, nor with an
   * anchor's own negatives beside candidates. Default: all.
   */
  hardest?: number;
  /** Default {@link softmaxLink}. */
  link?: Link;
  /**
   * Whether candidates are anchors as well: the mean of the losses of both directions, from one pass. There must be one set of
   * candidates with labels, and no own positives or negatives. Default false.
   */
  symmetric?: boolean;
  /** `'mean'` over the anchors with a loss (default), `'sum'`, or `'none'` for one loss an anchor, 0 where there is none. */
  reduction?: 'mean' | 'sum' | 'none';
  /** Whether to hold the whole matrix of scores or to go through it tile by tile. Default: by size, see {@link explain}. */
  execution?: Execution | 'auto';
}

/** Anchors and candidates ready for dot products. */
interface Prepared {
  readonly rows: Tensor;
  readonly blocks: readonly Pairs[];
  /** Scores [N, P] and [N, K]. */
  readonly positives: Tensor | null;
  readonly negatives: Tensor | null;
}

/**
 * A contrastive objective: each anchor's scores with its positives and negatives, made a loss by the link.
 *
 *     sᵢⱼ = similarity(anchorᵢ, candidateⱼ) / τ + bias − margin·[j is a positive of i]
 *     lossᵢ = link(the scores of anchor i)
 *
 * Scores are float32 (float64 for float64 anchors), also where autocast would choose a shorter type; where all embeddings are
 * bfloat16, products are taken of it and summed in float32. Tile by tile, memory grows with the embeddings and not with the number of
 * pairs.
 *
 * @returns the loss without dimensions, or [N] with reduction `'none'`
 * @throws InvalidArgumentError naming what does not fit: shapes, dtypes, devices, options that exclude each other
 */
export function contrast(options: ContrastOptions): Tensor {
  check(options);
  const { anchors, hardest, link = softmaxLink, symmetric = false, reduction = 'mean' } = options;
  return withoutAutocast(anchors, () => {
    const prepared = prepare(hardest === undefined ? options : { ...options, candidates: joined(options) });
    const { execution } = explain(options);
    const needs = needsOf(link);
    if (!symmetric) return reduce(...lossOf(link, needs, gather(prepared, execution, hardest)), reduction);
    const both = gatherBoth(prepared.blocks[0]!, needs, execution, hardest);
    const [rows, columns] = both.map((source) => lossOf(link, needs, source));
    if (reduction === 'none') {
      if (anchors.sizeOf(0) !== columns![0].numel()) {
        throw new InvalidArgumentError(
          "contrast: with reduction 'none', both directions need as many anchors as candidates",
        );
      }
      return reduce(...rows!, 'none')
        .add(reduce(...columns!, 'none'))
        .div(2);
    }
    return reduce(...rows!, reduction)
      .add(reduce(...columns!, reduction))
      .div(2);
  });
}

/** Which execution {@link contrast} takes for these options, why, and what memory each would take. Nothing is computed. */
export function explain(options: ContrastOptions): ExecutionChoice {
  const { anchors, execution = 'auto' } = options;
  const blocks = listOf(options.candidates).map(({ embeddings }) => embeddings.sizeOf(0));
  const columns = blocks.reduce((sum, count) => sum + count, 0);
  return chooseExecution(anchors, columns, execution);
}

/** @internal Several sets of candidates, one, or none. */
export function listOf(candidates: ContrastOptions['candidates']): readonly Candidates[] {
  if (candidates === undefined) return [];
  return 'embeddings' in candidates ? [candidates] : candidates;
}

/** @internal What says which pairs of the anchors and some candidates are positive or do not count; `part` picks of the anchors. */
export function whatCounts(
  { labels, ids, guides, guideLimits }: ContrastOptions,
  candidates: Candidates,
  part: (x: Tensor) => Tensor = (x) => x,
): Omit<Pairs, 'rows' | 'columns'> {
  return {
    ...(labels && candidates.labels && { rowLabels: part(labels), columnLabels: candidates.labels }),
    ...(ids && candidates.ids && { rowIds: part(ids), columnIds: candidates.ids }),
    ...(guides &&
      candidates.guides &&
      guideLimits && { rowGuides: part(guides), columnGuides: candidates.guides, guideLimits: part(guideLimits) }),
  };
}

/** All candidates in one set, as the hardest of all of them can only be told together. */
function joined({ candidates, labels, ids }: ContrastOptions): readonly Candidates[] {
  const sets = listOf(candidates);
  if (sets.length < 2) return sets;
  // A set without labels or ids gets one that no anchor has.
  const numbers = (key: 'labels' | 'ids', ofAnchors: Tensor | undefined): Tensor | undefined => {
    if (ofAnchors === undefined || sets.every((set) => set[key] === undefined)) return undefined;
    const other = ofAnchors.min().sub(1);
    return torch.cat(sets.map((set) => set[key] ?? other.expand([set.embeddings.sizeOf(0)])));
  };
  const [ofLabels, ofIds] = [numbers('labels', labels), numbers('ids', ids)];
  const guides = sets.map((set) => set.guides).filter((one) => one !== undefined);
  return [
    {
      embeddings: torch.cat(sets.map((set) => set.embeddings)),
      ...(ofLabels && { labels: ofLabels }),
      ...(ofIds && { ids: ofIds }),
      ...(guides.length > 0 && { guides: torch.cat(guides) }),
    },
  ];
}

// --- Scores ---

function prepare(options: ContrastOptions): Prepared {
  const { anchors, similarity = 'cosine', temperature = 0.07 } = options;
  const tensors = [
    anchors,
    options.positives,
    options.negatives,
    ...listOf(options.candidates).map((one) => one.embeddings),
  ];
  const dtype = tensors.some((x) => x?.dtype === 'float64') ? 'float64' : 'float32';
  const wide = (x: Tensor): Tensor => x.to({ dtype });
  // Products of bfloat16 are summed in float32: elements are rounded once more, scores never. Squared lengths would lose too much.
  const isShort = similarity !== 'euclidean' && tensors.every((x) => x === undefined || x.dtype === 'bfloat16');
  const asFactor = (x: Tensor): Tensor => (isShort ? x.to('bfloat16') : x);
  const rows = scaled(asAnchors(wide(anchors), similarity), temperature);
  const bias = options.bias === undefined ? undefined : wide(options.bias);
  const blocks = listOf(options.candidates).map((one): Pairs => ({
    rows: asFactor(rows),
    columns: asFactor(asCandidates(wide(one.embeddings), similarity)),
    ...(bias && { bias }),
    ...(options.margin !== undefined && { margin: options.margin }),
    ...whatCounts(options, one),
    ...(one.logWeights && { columnWeights: one.logWeights }),
  }));
  const ownScores = (own: Tensor | undefined, margin: number): Tensor | null => {
    if (own === undefined) return null;
    const several = own.ndim === 2 ? own.unsqueeze(1) : own;
    const scores = asCandidates(wide(several), similarity).mul(rows.unsqueeze(1)).sum([2]);
    const moved = bias === undefined ? scores : scores.add(bias);
    return margin === 0 ? moved : moved.sub(margin);
  };
  return {
    rows,
    blocks,
    positives: ownScores(options.positives, options.margin ?? 0),
    negatives: ownScores(options.negatives, 0),
  };
}

// −‖a − b‖² = 2a·b − ‖a‖² − ‖b‖² is a dot product of longer vectors, so that every similarity here is one.
function asAnchors(x: Tensor, similarity: ScoreSimilarity): Tensor {
  if (similarity === 'cosine') return functional.normalize(x);
  if (similarity === 'dot') return x;
  const squares = x.square().sum([-1], true);
  return torch.cat([x.mul(2), squares.neg(), torch.onesLike(squares)], -1);
}

function asCandidates(x: Tensor, similarity: ScoreSimilarity): Tensor {
  if (similarity === 'cosine') return functional.normalize(x);
  if (similarity === 'dot') return x;
  const squares = x.square().sum([-1], true);
  return torch.cat([x, torch.onesLike(squares), squares.neg()], -1);
}

function scaled(rows: Tensor, temperature: number | Tensor): Tensor {
  if (typeof temperature === 'number') return rows.div(temperature);
  const wide = temperature.to({ dtype: rows.dtype });
  return rows.div(wide.numel() === 1 ? wide.reshape([]) : wide.unsqueeze(1));
}

// --- Statistics ---

/** Gives a link its statistics. */
type Source = <Names extends string>(needs: Readonly<Record<Names, Need>>) => Record<Names, Tensor>;

function named<Names extends string>(names: readonly Names[], values: readonly Tensor[]): Record<Names, Tensor> {
  return Object.fromEntries(names.map((name, i) => [name, values[i]!])) as Record<Names, Tensor>;
}

/** The statistics that a link needs, of the hardest negatives only. */
function wantedOf(needs: Readonly<Record<string, Need>>, hardest: number | undefined): Statistic[] {
  return Object.values(needs).map((need) =>
    hardest === undefined || need.over !== 'negatives' ? need : { ...need, weighted: false, top: hardest },
  );
}

function gather(
  { rows, blocks, positives, negatives }: Prepared,
  execution: Execution,
  hardest: number | undefined,
): Source {
  return (needs) => {
    const names = Object.keys(needs);
    const wanted = wantedOf(needs, hardest);
    checkStatistics(wanted);
    const parts = blocks.map((block) => pairStatistics(block, withoutWeights(wanted, block), execution));
    for (const [own, set] of [
      [positives, 'positives'],
      [negatives, 'negatives'],
    ] as const) {
      if (own !== null) parts.push(wanted.map((statistic) => ownStatistic(own, set, statistic)));
    }
    if (parts.length === 0) throw new InvalidArgumentError('contrast: there is nothing to compare the anchors with');
    const whole = parts.reduce((a, b) => a.map((value, i) => merge(wanted[i]!, value, b[i]!)));
    return named(
      names,
      whole.map((value) => value.reshape([rows.sizeOf(0)])),
    ) as never;
  };
}

/** Both directions of one block, whose first statistics, these needs, come from one pass where that can be. */
function gatherBoth(
  block: Pairs,
  firstNeeds: Readonly<Record<string, Need>>,
  execution: Execution,
  hardest: number | undefined,
): Source[] {
  const names = Object.keys(firstNeeds);
  const turned: Pairs = {
    ...block,
    rows: block.columns,
    columns: block.rows,
    ...(block.rowLabels && { rowLabels: block.columnLabels!, columnLabels: block.rowLabels }),
    ...(block.rowIds && { rowIds: block.columnIds!, columnIds: block.rowIds }),
  };
  const alone = (pairs: Pairs, needs: Readonly<Record<string, Need>>): Tensor[] => {
    const wanted = withoutWeights(wantedOf(needs, hardest), pairs);
    checkStatistics(wanted);
    return pairStatistics(pairs, wanted, execution);
  };
  const together = (): Tensor[] => {
    const wanted = (['rows', 'columns'] as const).flatMap((axis) =>
      Object.values(firstNeeds).map((need): Statistic => ({ ...need, axis })),
    );
    checkStatistics(wanted);
    return pairStatistics(block, withoutWeights(wanted, block), execution);
  };
  // The greatest scores of a column are not kept while rows are gone through.
  const isOnePass = hardest === undefined && Object.values(firstNeeds).every(({ top }) => top === undefined);
  const values = isOnePass ? together() : [...alone(block, firstNeeds), ...alone(turned, firstNeeds)];
  return [block, turned].map((pairs, direction): Source => {
    const first = named(names, values.slice(direction * names.length, (direction + 1) * names.length));
    return (needs) => {
      if ((needs as unknown) === firstNeeds) return first as never;
      return named(Object.keys(needs), alone(pairs, needs)) as never;
    };
  });
}

function withoutWeights(wanted: readonly Statistic[], { columnWeights }: Pairs): Statistic[] {
  return wanted.map((statistic) => ({
    ...statistic,
    weighted: statistic.weighted === true && columnWeights !== undefined,
  }));
}

/** A statistic over an anchor's own pairs, all of one class, whose scores are [N, P]. */
function ownStatistic(scores: Tensor, set: 'positives' | 'negatives', statistic: Statistic): Tensor {
  const { kind, over } = statistic;
  if (over === 'all' || over === set) return statisticOf(scores, null, statistic);
  return scores.newZeros([scores.sizeOf(0)]).sub(kind === 'logSumExp' || kind === 'maximum' ? Infinity : 0);
}

function merge({ kind }: Statistic, a: Tensor, b: Tensor): Tensor {
  if (kind === 'maximum') return a.maximum(b);
  return kind === 'logSumExp' ? addLogarithms([a, b]) : a.add(b);
}

// --- Losses ---

/** How many positives an anchor has, under a name that no link uses. */
const POSITIVE_COUNT = ' positives';

function needsOf(link: Link): Readonly<Record<string, Need>> {
  return link.withoutPositives === true
    ? link.needs
    : { ...link.needs, [POSITIVE_COUNT]: { kind: 'count', over: 'positives' } };
}

/** The loss of each anchor, 0 where it has none, and which have one. */
function lossOf(link: Link, needs: Readonly<Record<string, Need>>, source: Source): [Tensor, Tensor] {
  const values = source(needs);
  const context: LinkContext = { more: (further) => source(further) };
  if (link.withoutPositives === true) {
    const losses = link.loss(values, context);
    return [losses, torch.onesLike(losses.detach()).to('bool')];
  }
  const has = values[POSITIVE_COUNT]!.gt(0);
  // Values without a positive are replaced before the link sees them: a gradient through what is no number is none.
  const filled = Object.entries(values).map(([name, value]) => {
    const kind = needs[name]!.kind;
    return [name, torch.where(has, value, kind === 'count' ? value.newOnes([]) : value.newZeros([]))] as const;
  });
  const losses = link.loss(Object.fromEntries(filled), context);
  return [torch.where(has, losses, losses.newZeros([])), has];
}

function reduce(losses: Tensor, has: Tensor, reduction: 'mean' | 'sum' | 'none'): Tensor {
  if (reduction === 'none') return losses;
  const sum = losses.sum();
  return reduction === 'sum' ? sum : sum.div(has.sum().clampMin(1));
}

// --- Checks ---

function check(options: ContrastOptions): void {
  const { anchors, positives, negatives, temperature = 0.07, symmetric = false, bias, link = softmaxLink } = options;
  checkEmbeddings(anchors, 'contrast: anchors');
  const [count, dimension] = anchors.shape as readonly [number, number];
  const blocks = listOf(options.candidates);
  blocks.forEach(({ embeddings, ...about }, i) => {
    const name = blocks.length === 1 ? 'candidates' : `candidates ${String(i)}`;
    checkEmbeddings(embeddings, `contrast: ${name}`, dimension);
    checkDevice(embeddings, anchors, name);
    for (const [key, value] of Object.entries(about) as [string, Tensor | undefined][]) {
      if (value !== undefined) checkNumbers(value, `${name}' ${key}`, embeddings.sizeOf(0), key, anchors);
    }
  });
  for (const key of ['labels', 'ids', 'guides', 'guideLimits'] as const) {
    const value = options[key];
    if (value !== undefined) checkNumbers(value, `anchors' ${key}`, count, key, anchors);
  }
  if (options.guides !== undefined && options.guideLimits === undefined) {
    throw new InvalidArgumentError('contrast: guides need guideLimits, above which a negative does not count');
  }
  for (const [name, own, dimensions] of [
    ['positives', positives, [2, 3]],
    ['negatives', negatives, [3]],
  ] as const) {
    if (own === undefined) continue;
    const { shape } = own;
    const fits =
      (dimensions as readonly number[]).includes(shape.length) && shape[0] === count && shape.at(-1) === dimension;
    if (!fits || own.numel() === 0) {
      const expected =
        name === 'positives'
          ? `[${count}, ${dimension}] or [${count}, P, ${dimension}]`
          : `[${count}, K, ${dimension}]`;
      throw new InvalidArgumentError(`contrast: ${name}: expected shape ${expected}, found [${shape.join(', ')}]`);
    }
    checkDevice(own, anchors, name);
  }
  if (
    typeof temperature === 'number'
      ? !(temperature > 0 && temperature < Infinity)
      : ![1, count].includes(temperature.numel())
  ) {
    const found =
      typeof temperature === 'number' ? String(temperature) : `a tensor of shape [${temperature.shape.join(', ')}]`;
    throw new InvalidArgumentError(
      `contrast: temperature must be a positive number, or a tensor of one element or one an anchor, found ${found}`,
    );
  }
  const knowsPositives =
    positives !== undefined || (options.labels !== undefined && blocks.some((block) => block.labels !== undefined));
  if (!knowsPositives && link.withoutPositives !== true) {
    throw new InvalidArgumentError(
      `contrast: the link '${link.name}' needs positives: give the anchors and candidates labels, or each anchor its own positives`,
    );
  }
  checkHardest(options, blocks);
  if (bias !== undefined && bias.numel() !== 1) throw new InvalidArgumentError('contrast: the bias has one element');
  if (symmetric && (blocks.length !== 1 || positives !== undefined || negatives !== undefined)) {
    throw new InvalidArgumentError(
      'contrast: both directions need one set of candidates, and no own positives or negatives',
    );
  }
  if (symmetric && (options.guides !== undefined || blocks[0]!.logWeights !== undefined)) {
    throw new InvalidArgumentError('contrast: guides and weights belong to one direction; call it once for each');
  }
}

function checkHardest({ hardest, negatives, link = softmaxLink }: ContrastOptions, sets: readonly Candidates[]): void {
  if (hardest === undefined) return;
  positiveInteger(hardest, 'contrast: hardest');
  if (Object.values(link.needs as Readonly<Record<string, Need>>).some(({ over }) => over === 'all')) {
    throw new InvalidArgumentError(
      `contrast: the link '${link.name}' looks at all pairs at once: it has no hardest negatives`,
    );
  }
  if (negatives !== undefined && sets.length > 0) {
    throw new InvalidArgumentError(
      'contrast: the hardest negatives are those among candidates, or among own negatives, not among both',
    );
  }
  if (sets.some(({ logWeights }) => logWeights !== undefined)) {
    throw new InvalidArgumentError('contrast: the hardest negatives cannot have logWeights');
  }
  if (sets.some(({ guides }) => guides !== undefined) && sets.some(({ guides }) => guides === undefined)) {
    throw new InvalidArgumentError('contrast: for the hardest negatives, all candidates have guides or none');
  }
}

function checkDevice(tensor: Tensor, anchors: Tensor, name: string): void {
  if (tensor.device !== anchors.device) {
    throw new InvalidArgumentError(
      `contrast: the anchors are on ${anchors.device}, ${name} on ${tensor.device}; move one`,
    );
  }
}

function checkNumbers(tensor: Tensor, name: string, count: number, key: string, anchors: Tensor): void {
  checkDevice(tensor, anchors, name);
  const isMatrix = key === 'guides';
  if (tensor.ndim !== (isMatrix ? 2 : 1) || tensor.sizeOf(0) !== count) {
    const expected = isMatrix ? `[${count}, E]` : `[${count}]`;
    throw new InvalidArgumentError(`contrast: ${name}: expected shape ${expected}, found [${tensor.shape.join(', ')}]`);
  }
  if ((key === 'labels' || key === 'ids') && tensor.dtype !== 'int64') {
    throw new InvalidArgumentError(`contrast: ${name} must be int64, found ${tensor.dtype}`);
  }
}
