import { integerFrom, numberWithin, positiveInteger } from '../../nn/checks';
import { InvalidArgumentError, isTensor, type JsonObject, type Tensor } from '../../torch';
import { digest, Groups, integers, type Integers } from './groups';
import { RandomSource } from './random-source';
import { EpochSampler, inBatches, type SampledBatch, type SamplerOptions } from './sampler';

/** A graph for {@link Node2VecSampler}. */
export interface GraphEdges {
  /** The number of nodes. */
  nodes: number;
  /** Where each edge starts. */
  sources: Integers;
  /** Where it ends. */
  targets: Integers;
  /** At least 0; default 1 each. Several edges between the same nodes add up. */
  weights?: Tensor | readonly number[] | Float32Array | Float64Array;
  /** Whether edges go one way only. Default: false. */
  directed?: boolean;
}

/** What {@link Node2VecSampler} takes. */
export interface Node2VecSamplerOptions extends SamplerOptions {
  graph: GraphEdges;
  /** Walks a batch, of all ranks together. */
  batchSize: number;
  /** p: the larger, the less a walk returns to where it just was. Default: 1. */
  returnParameter?: number;
  /** q: below 1 walks go outward, above 1 they stay near. Default: 1. */
  inOutParameter?: number;
  /** Nodes of a walk. Default: 80. */
  walkLength?: number;
  /** Walks from each node in an epoch. Default: 10. */
  walksPerNode?: number;
  /** How far apart in a walk two nodes are that make a pair. Default: 10. */
  window?: number;
  /** Negatives of each pair. Default: 5. */
  negatives?: number;
  /** The power of a node's degree that negatives are drawn by. Default: 0.75. */
  negativePower?: number;
}

/** Walks and what skip-gram learns from them. */
export interface Node2VecBatch extends SampledBatch {
  /** For each start of `indices` its walk, of `walkLength` nodes or fewer where the graph ended. */
  walks: Int32Array[];
  /** The node of each pair that is predicted from, [P]. */
  centers: Int32Array;
  /** The node that is predicted, [P]. */
  contexts: Int32Array;
  /** Nodes for comparison, [P · negatives], those of a pair one after the other. */
  negatives: Int32Array;
}

/**
 * node2vec (Grover and Leskovec 2016, "node2vec: Scalable Feature Learning for Networks"): biased random walks of the second order, and
 * from them pairs and negatives for skip-gram with negative sampling (or any objective that takes negatives of each anchor's own). A walk that came
 * from t to v goes on to x with a probability in proportion to the weight of v→x times
 *
 *     1/p if x = t,   1 if there is an edge t→x,   1/q otherwise
 *
 * p and q choose between breadth (nodes of one role) and depth (nodes of one community). A walk ends early at a node without edges out.
 * An epoch has `walksPerNode` walks from each node, in a random order for each round. Pairs are all nodes of a walk at most `window`
 * apart. Negatives are drawn by (weighted) degree to the power of 3/4, a node itself and its contexts among them, as in word2vec; that the
 * paper does it by degree is from memory (word2vec counts words of the walks).
 *
 * Steps are drawn by rejection: a step by weight is taken with a probability of bias / largest bias. The distribution is exact, and there
 * is no table for each edge: memory is that of the edges. In directed graphs the authors' code asks for an edge x→t instead; for
 * undirected ones it is the same.
 *
 * For embeddings of the nodes of a graph, and for positives from a graph in any contrastive objective.
 */
export class Node2VecSampler extends EpochSampler<Node2VecBatch> {
  readonly batchSize: number;
  readonly returnParameter: number;
  readonly inOutParameter: number;
  readonly walkLength: number;
  readonly walksPerNode: number;
  readonly window: number;
  readonly negatives: number;
  readonly negativePower: number;
  /** Out-edges by node, ordered by their ends, and the running sum of weights in each node. */
  readonly #starts: Int32Array;
  readonly #ends: Int32Array;
  readonly #sums: Float64Array;
  /** The running sum of the nodes' weights as negatives. */
  readonly #negativeSums: Float64Array;
  readonly #digest: string;

  /** @throws InvalidArgumentError naming the option that does not fit, for instance an edge of a node that there is not */
  constructor(options: Node2VecSamplerOptions) {
    const what = 'Node2VecSampler';
    const { nodes, directed = false } = options.graph;
    super(nodes, options);
    this.batchSize = positiveInteger(options.batchSize, `${what}: batchSize`);
    this.returnParameter = positive(options.returnParameter ?? 1, `${what}: returnParameter`);
    this.inOutParameter = positive(options.inOutParameter ?? 1, `${what}: inOutParameter`);
    this.walkLength = positiveInteger(options.walkLength ?? 80, `${what}: walkLength`);
    this.walksPerNode = positiveInteger(options.walksPerNode ?? 10, `${what}: walksPerNode`);
    this.window = positiveInteger(options.window ?? 10, `${what}: window`);
    this.negatives = integerFrom(0, options.negatives ?? 5, `${what}: negatives`);
    this.negativePower = numberWithin(0, Infinity, options.negativePower ?? 0.75, `${what}: negativePower`);
    const sources = integers(options.graph.sources, `${what}: graph.sources`);
    const targets = integers(options.graph.targets, `${what}: graph.targets`, sources.length);
    const given = options.graph.weights ?? new Float64Array(sources.length).fill(1);
    const weights = Float64Array.from(isTensor(given) ? (given.dataSync() as ArrayLike<number>) : given);
    if (weights.length !== sources.length || !weights.every((weight) => weight >= 0 && weight < Infinity)) {
      throw new InvalidArgumentError(`${what}: graph.weights must be ${sources.length} finite numbers of at least 0`);
    }
    for (const node of [...sources, ...targets]) {
      if (node < 0 || node >= nodes) {
        throw new InvalidArgumentError(`${what}: edges must join nodes from 0 to ${nodes - 1}, found ${node}`);
      }
    }
    const edges = merged(nodes, sources, targets, weights, directed);
    this.#starts = edges.starts;
    this.#ends = edges.ends;
    this.#sums = edges.sums;
    this.#negativeSums = new Float64Array(nodes);
    const degrees = new Float64Array(nodes);
    for (let node = 0; node < nodes; node++) {
      const [start, end] = [this.#starts[node]!, this.#starts[node + 1]!];
      // In a directed graph a node without edges out is still one that others lead to.
      for (let edge = start; edge < end; edge++) {
        const weight = this.#sums[edge]! - (edge === start ? 0 : this.#sums[edge - 1]!);
        degrees[node]! += weight;
        if (directed) degrees[this.#ends[edge]!]! += weight;
      }
    }
    let total = 0;
    degrees.forEach(
      (degree, node) => (this.#negativeSums[node] = total += degree > 0 ? degree ** this.negativePower : 0),
    );
    if (!(total > 0))
      throw new InvalidArgumentError(`${what}: the graph must have at least one edge with a weight above 0`);
    this.#digest = digest(this.#starts, this.#ends, this.#sums);
  }

  protected override plan(_epoch: number, random: RandomSource): Int32Array[] {
    const starts = new Int32Array(this.size * this.walksPerNode);
    for (let round = 0; round < this.walksPerNode; round++)
      starts.set(random.permutation(this.size), round * this.size);
    return inBatches(starts, this.batchSize, false);
  }

  protected override complete(batch: SampledBatch): Node2VecBatch {
    const { epoch, step, indices } = batch;
    // Each walk has its own stream by its place in the whole batch, so that it does not depend on the number of processes.
    const first = this.shard.rank * indices.length;
    const streams = Array.from(indices, (_, row) => new RandomSource(this.seed, epoch, step, first + row));
    const walks = Array.from(indices, (start, row) => this.walk(start, streams[row]!));
    const [centers, contexts, negatives]: [number[], number[], number[]] = [[], [], []];
    walks.forEach((walk, row) => {
      walk.forEach((center, place) => {
        const end = Math.min(walk.length, place + this.window + 1);
        for (let other = Math.max(0, place - this.window); other < end; other++) {
          if (other === place) continue;
          centers.push(center);
          contexts.push(walk[other]!);
          for (let drawn = 0; drawn < this.negatives; drawn++) negatives.push(this.#negative(streams[row]!));
        }
      });
    });
    return {
      ...batch,
      walks,
      centers: Int32Array.from(centers),
      contexts: Int32Array.from(contexts),
      negatives: Int32Array.from(negatives),
    };
  }

  /** One walk from a node. */
  walk(start: number, random: RandomSource): Int32Array {
    const { returnParameter: p, inOutParameter: q } = this;
    const walk = new Int32Array(this.walkLength);
    const largest = Math.max(1, 1 / p, 1 / q);
    walk[0] = start;
    for (let length = 1; length < this.walkLength; length++) {
      const from = walk[length - 1]!;
      if (this.#starts[from] === this.#starts[from + 1]) return walk.slice(0, length);
      let next = this.#step(from, random);
      if (length > 1) {
        const before = walk[length - 2]!;
        const bias = (to: number) => (to === before ? 1 / p : this.#joined(before, to) ? 1 : 1 / q);
        while (random.uniform() * largest >= bias(next)) next = this.#step(from, random);
      }
      walk[length] = next;
    }
    return walk;
  }

  /** The end of one of a node's edges, by weight. */
  #step(node: number, random: RandomSource): number {
    const [start, end] = [this.#starts[node]!, this.#starts[node + 1]!];
    return this.#ends[drawn(this.#sums, start, end, random)]!;
  }

  #negative(random: RandomSource): number {
    return drawn(this.#negativeSums, 0, this.size, random);
  }

  /** Whether there is an edge. */
  #joined(from: number, to: number): boolean {
    let [low, high] = [this.#starts[from]!, this.#starts[from + 1]!];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ends[middle]! < to) low = middle + 1;
      else high = middle;
    }
    return low < this.#starts[from + 1]! && this.#ends[low] === to;
  }

  protected override identity(): JsonObject {
    const { batchSize, returnParameter, inOutParameter, walkLength, walksPerNode } = this;
    const { window, negatives, negativePower } = this;
    const walks = { batchSize, returnParameter, inOutParameter, walkLength, walksPerNode };
    return { ...walks, window, negatives, negativePower, graph: this.#digest };
  }
}

function positive(value: number, what: string): number {
  if (value > 0 && value < Infinity) return value;
  throw new InvalidArgumentError(`${what} must be a number above 0, found ${value}`);
}

/** The place from `start` up to `end` that a uniform number falls into, by running sums of weights from `start` on. */
function drawn(sums: Float64Array, start: number, end: number, random: RandomSource): number {
  const mark = random.uniform() * sums[end - 1]!;
  let [low, high] = [start, end - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sums[middle]! > mark) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Edges by node, each once with the sum of its weights, without those of no weight; both ways if undirected. */
function merged(
  nodes: number,
  sources: Int32Array,
  targets: Int32Array,
  weights: Float64Array,
  directed: boolean,
): { starts: Int32Array; ends: Int32Array; sums: Float64Array } {
  // Edge e + E is edge e the other way. A loop has only one.
  const [from, to] = [[...sources], [...targets]];
  const weight = [...weights];
  if (!directed) {
    sources.forEach((source, edge) => {
      if (source === targets[edge]) return;
      from.push(targets[edge]!);
      to.push(source);
      weight.push(weights[edge]!);
    });
  }
  const groups = Groups.of(Int32Array.from(from), nodes);
  const starts = new Int32Array(nodes + 1);
  const ends: number[] = [];
  const sums: number[] = [];
  for (let node = 0; node < nodes; node++) {
    let sum = 0;
    const edges = groups
      .of(node)
      .filter((edge) => weight[edge]! > 0)
      .sort((a, b) => to[a]! - to[b]!);
    edges.forEach((edge, place) => {
      sum += weight[edge]!;
      if (place > 0 && to[edges[place - 1]!] === to[edge]) {
        sums[sums.length - 1] = sum;
      } else {
        ends.push(to[edge]!);
        sums.push(sum);
      }
    });
    starts[node + 1] = ends.length;
  }
  return { starts, ends: Int32Array.from(ends), sums: Float64Array.from(sums) };
}
