/** Batches of any size through encoders that hold only a part of one at a time. */
import {
  defaultGenerator,
  dispose,
  enableGrad,
  InvalidArgumentError,
  noGrad,
  scope,
  torch,
  type Generator,
  type Tensor,
} from '../torch';
import { withoutAutocast } from '../torch/autograd';
import { positiveInteger } from '../nn/checks';
import type { AnyModule, Module, Parameter } from '../nn';
import { batchDependentNorms, remembersPasses } from '../norm/uses-batch';
import { WholeBatchNorm } from './whole-batch-norm';

/**
 * How much of a batch an encoder holds at a time: so many samples, or neighbours whose costs add up to at most `most`, such as the tokens of
 * a text. A sample that costs more than that is a chunk of its own.
 */
export type ChunkRule = number | { readonly most: number; readonly cost: (sample: number) => number };

/** An encoder and its part of the batch. */
export interface GradCacheTower {
  /** Gives [n, …] for n samples. Several towers may have the same one. */
  encoder: Module<[Tensor], Tensor> | Module<Tensor[], Tensor>;
  /** [N, …], or several that `forward` takes: tokens and their mask. They need no gradients. */
  input: Tensor | readonly Tensor[];
  /** Default: that of {@link GradCacheOptions}. */
  chunk?: ChunkRule;
}

/** What {@link gradCache} takes beside towers and objective. */
export interface GradCacheOptions {
  chunk: ChunkRule;
  /**
   * What to do about batch norms that normalise by the batch, of which a chunk is only a part:
   *
   * - `'refuse'` (default): it is an error.
   * - `'exact'`: they normalise by the whole batch. With n of them in an encoder this takes n + 1 passes forwards, half as long on
   *   average, and n + 1 forwards and backwards, instead of one and one. The running statistics move once.
   * - `'chunk'`: each chunk is normalised by its own statistics, as by `SplitBatchNorm`: another function than the whole batch's, whose
   *   gradients are exact. The running statistics move once for each chunk.
   *
   * Other ways: `eval()` of the batch norms, which freezes their statistics, or another norm.
   */
  batchNorm?: 'refuse' | 'exact' | 'chunk';
  /** Where the encoders' random numbers come from. Default: the default generators of the CPU and of the towers' devices. */
  generators?: readonly Generator[];
}

/** What {@link gradCache} gives. */
export interface GradCacheResult {
  /** The loss, no dimensions. Its gradients are there already: it is a leaf, whose `backward()` has nothing left to do. */
  loss: Tensor;
  /** The embeddings of each tower, [N, …], without a graph. */
  embeddings: Tensor[];
}

/**
 * The gradients of an objective over a whole batch, with the memory of a chunk (GradCache, Gao et al. 2021, "Scaling Deep Contrastive
 * Learning Batch Size under Memory Limited Setup"):
 *
 * 1. Every chunk is encoded without a graph.
 * 2. The objective is computed on all embeddings, and its gradient by them.
 * 3. Every chunk is encoded again with a graph, with the same random numbers, and these gradients go back through it.
 *
 * They accumulate in `grad` of the encoders' parameters, and of whatever else the objective learns. They are those of the whole batch:
 * dropout drops the same elements both times, and running statistics move once. It costs a second forward pass. For the objective to grow no faster
 * than the batch, let `contrast()` go tile by tile, as it does for large batches. Encoders without trainable parameters run once.
 *
 * Under `autocast` the encoders run in its precision; backward passes are kept out of it.
 *
 * ```ts
 * const { loss } = gradCache(
 *   [{ encoder: image, input: images }, { encoder: text, input: [tokens, mask] }],
 *   (anchors, embeddings) => contrast({ anchors, candidates: { embeddings, labels }, labels, symmetric: true }),
 *   { chunk: 64 },
 * );
 * optimizer.step();
 * ```
 *
 * In the method of a `Trainer`, return the loss from `step`.
 *
 * After an error, random numbers, buffers and the encoders' gradients are as before; what else the objective learns may have its gradients
 * by then.
 *
 * @param objective gives the loss, one element, of the towers' embeddings
 * @throws InvalidArgumentError if inputs or chunks do not fit, for batch norms as said, and if an encoder gives something else for a chunk the
 * second time: it keeps state or draws random numbers outside `generators`
 */
export function gradCache(
  towers: readonly GradCacheTower[],
  objective: (...embeddings: Tensor[]) => Tensor,
  options: GradCacheOptions,
): GradCacheResult {
  check(towers, options);
  return scope(() => {
    const state = new State(towers, options);
    try {
      const runs = towers.map((tower, place) => new TowerRun(tower, place, options, state));
      const embeddings = runs.map((run) => run.encode());
      const { loss, gradients } = differentiate(objective, embeddings, runs);
      state.note();
      runs.forEach((run, i) => {
        if (gradients[i] !== null) run.backward(embeddings[i]!, gradients[i]!);
      });
      state.finish();
      for (const run of runs) run.finish();
      return { loss, embeddings };
    } catch (error) {
      state.restore();
      throw error;
    }
  });
}

function differentiate(
  objective: (...embeddings: Tensor[]) => Tensor,
  embeddings: readonly Tensor[],
  runs: readonly TowerRun[],
): { loss: Tensor; gradients: (Tensor | null)[] } {
  return scope(() => {
    const leaves = embeddings.map((x, i) => (runs[i]!.learns ? x.detach().requiresGrad_() : x));
    const loss = enableGrad(() => objective(...leaves));
    if (loss.numel() !== 1) {
      throw new InvalidArgumentError(
        `gradCache: the objective must give one number, found shape [${loss.shape.join(', ')}]`,
      );
    }
    if (!loss.requiresGrad) {
      throw new InvalidArgumentError('gradCache: the loss depends on nothing that learns; was something detached?');
    }
    withoutAutocast(loss, () => loss.backward());
    return { loss: loss.detach().reshape([]).requiresGrad_(), gradients: leaves.map((leaf) => leaf.grad) };
  });
}

// --- One tower ---

/** Second embeddings may differ from the first by this share of the largest: kernels may round differently each time, dropout does more. */
const MOST_DIFFERENCE = 0.05;

class TowerRun {
  /** Whether gradients flow to any parameter. */
  readonly learns: boolean;
  readonly #encoder: Module<Tensor[], Tensor>;
  readonly #inputs: readonly Tensor[];
  readonly #chunks: readonly (readonly [begin: number, size: number])[];
  readonly #state: State;
  readonly #name: string;
  /** What gives each chunk its random numbers again. */
  readonly #replays: (() => void)[] = [];
  readonly #norms: WholeBatchNorm | null;
  /** Puts the encoder's buffers back to where they were before the first chunk. */
  #rewind: (() => void) | null = null;

  constructor(tower: GradCacheTower, place: number, options: GradCacheOptions, state: State) {
    this.#name = nameOf(place);
    this.#encoder = tower.encoder as Module<Tensor[], Tensor>;
    this.#inputs = inputsOf(tower);
    this.#chunks = chunksOf(tower.chunk ?? options.chunk, this.#inputs[0]!.sizeOf(0), this.#name);
    this.#state = state;
    this.learns = this.#encoder.parameters().some((parameter) => parameter.requiresGrad);
    const isCut = this.#chunks.length > 1 && batchDependentNorms(this.#encoder).length > 0;
    this.#norms =
      isCut && options.batchNorm === 'exact'
        ? new WholeBatchNorm({
            encoder: this.#encoder,
            chunks: this.#chunks.length,
            rewind: () => {
              this.#rewind?.();
            },
            encode: (chunk) => {
              this.#replays[chunk]!();
              return this.#forward(chunk);
            },
          })
        : null;
  }

  /** The embeddings of all samples, without a graph. */
  encode(): Tensor {
    this.#rewind = this.#state.buffersHere(this.#encoder);
    if (this.#norms !== null) {
      // A pass that ends early draws fewer numbers, so each chunk starts from a seed of its own.
      this.#replays.push(...this.#state.seeds(this.#chunks.length));
      const after = this.#state.randomHere();
      const parts = this.#norms.measure();
      after();
      return joined(parts);
    }
    const parts = this.#chunks.map((_, chunk) => {
      this.#replays.push(this.#state.randomHere());
      return scope(() => noGrad(() => this.#forward(chunk)));
    });
    return joined(parts);
  }

  /** Lets the gradients by the embeddings go on to the parameters. */
  backward(embeddings: Tensor, gradients: Tensor): void {
    const part = (x: Tensor, chunk: number): Tensor => x.narrow(0, ...this.#chunks[chunk]!);
    const run = (chunk: number, output: Tensor, backward: () => void): Tensor => {
      withoutAutocast(output, backward);
      return noGrad(() => output.sub(part(embeddings, chunk)).abs().max());
    };
    let differences: Tensor[];
    if (this.#norms !== null) {
      differences = this.#norms.backward(
        (chunk) => part(gradients, chunk),
        (chunk, output, share) =>
          run(chunk, output, () => {
            share.backward();
          }),
      );
    } else {
      this.#rewind!();
      differences = this.#chunks.map((_, chunk) =>
        scope(() => {
          this.#replays[chunk]!();
          const output = enableGrad(() => this.#forward(chunk));
          return run(chunk, output, () => {
            output.backward(part(gradients, chunk));
          });
        }),
      );
    }
    this.#checkSame(embeddings, torch.stack(differences).max().itemSync());
  }

  /** Moves what moves once a batch. */
  finish(): void {
    this.#norms?.updateRunning();
  }

  #forward(chunk: number): Tensor {
    const [begin, size] = this.#chunks[chunk]!;
    const output = this.#encoder.forward(...this.#inputs.map((input) => input.narrow(0, begin, size)));
    if (output.ndim === 0 || output.sizeOf(0) !== size) {
      throw new InvalidArgumentError(
        `gradCache: the encoder of ${this.#name} gave [${output.shape.join(', ')}] for ${size} samples; it must give a row for each`,
      );
    }
    return output;
  }

  #checkSame(embeddings: Tensor, most: number): void {
    if (most > MOST_DIFFERENCE * scope(() => embeddings.abs().max().itemSync())) {
      throw new InvalidArgumentError(
        `gradCache: the encoder of ${this.#name} gave other embeddings the second time (a difference of ${most.toPrecision(3)}), so ` +
          'their gradients would be wrong: it keeps state outside its buffers, or draws random numbers from a generator that is not in generators',
      );
    }
  }
}

function joined(parts: Tensor[]): Tensor {
  const whole = noGrad(() => torch.cat(parts));
  dispose(parts);
  return whole;
}

function nameOf(place: number): string {
  return `tower ${String(place)}`;
}

function inputsOf({ input }: GradCacheTower): readonly Tensor[] {
  return Array.isArray(input) ? (input as readonly Tensor[]) : [input as Tensor];
}

function chunksOf(rule: ChunkRule, samples: number, name: string): [begin: number, size: number][] {
  const { most, cost } = typeof rule === 'number' ? { most: rule, cost: () => 1 } : rule;
  const chunks: [number, number][] = [];
  let sum = Infinity;
  for (let sample = 0; sample < samples; sample++) {
    const own = cost(sample);
    if (!(own >= 0)) {
      throw new InvalidArgumentError(`gradCache: ${name}: sample ${sample} costs ${String(own)}; a cost is at least 0`);
    }
    sum += own;
    if (sum > most) {
      chunks.push([sample, 0]);
      sum = own;
    }
    chunks.at(-1)![1]++;
  }
  return chunks;
}

// --- What is put back ---

/** What the encoders change beside giving embeddings: random numbers, buffers, gradients. */
class State {
  readonly #encoders: readonly AnyModule[];
  readonly #generators: readonly Generator[];
  readonly #parameters: readonly Parameter[];
  readonly #gradients: readonly (Tensor | null)[];
  readonly #before: () => void;
  #after: (() => void) | null = null;

  constructor(towers: readonly GradCacheTower[], { generators }: GradCacheOptions) {
    this.#encoders = [...new Set(towers.map(({ encoder }) => encoder as AnyModule))];
    const devices = towers.flatMap((tower) => [...inputsOf(tower), ...tower.encoder.parameters()].map((x) => x.device));
    this.#generators =
      generators ?? [...new Set(['cpu' as const, ...devices])].map((device) => defaultGenerator(device));
    this.#before = this.#here();
    this.#parameters = [...new Set(this.#encoders.flatMap((encoder) => encoder.parameters()))];
    this.#gradients = this.#parameters.map((parameter) => parameter.grad);
    // Apart from what was there, so that it is there again if something fails.
    for (const parameter of this.#parameters) parameter.grad = null;
  }

  /** Gives what puts the random numbers back to where they are. */
  randomHere(): () => void {
    const states = this.#generators.map((generator) => generator.getState());
    return () => {
      this.#generators.forEach((generator, i) => {
        generator.setState(states[i]!);
      });
    };
  }

  /** Starting points for so many chunks, from the present random numbers. */
  seeds(count: number): (() => void)[] {
    return Array.from({ length: count }, () => {
      const seed = scope(() => torch.randint(0, 2 ** 48, [1], { dtype: 'int64', generator: this.#source }).itemSync());
      return () => {
        this.#generators.forEach((generator, i) => generator.manualSeed(Number(seed) + i));
      };
    });
  }

  /** Gives what puts buffers back that a module in training mode may change. */
  buffersHere(encoder: AnyModule): () => void {
    const modules = encoder.namedModules();
    const copies = noGrad(() =>
      [...encoder.namedBuffers()]
        .filter(([path]) => modules.get(path.slice(0, Math.max(path.lastIndexOf('.'), 0)))?.training !== false)
        .map(([, buffer]) => [buffer, buffer.clone()] as const),
    );
    return () => {
      noGrad(() => {
        scope(() => {
          for (const [buffer, copy] of copies) buffer.copy_(copy);
        });
      });
    };
  }

  /** Notes how things stand once all is encoded and the loss is there: so they end. */
  note(): void {
    this.#after = this.#here();
  }

  /** Adds the new gradients to those of before. */
  finish(): void {
    this.#after!();
    noGrad(() => {
      this.#parameters.forEach((parameter, i) => {
        const [before, added] = [this.#gradients[i]!, parameter.grad];
        if (before === null) return;
        if (added !== null) before.add_(added).dispose();
        parameter.grad = before;
      });
    });
  }

  restore(): void {
    this.#before();
    this.#parameters.forEach((parameter, i) => {
      parameter.grad = this.#gradients[i]!;
    });
  }

  get #source(): Generator {
    return this.#generators.find(({ device }) => device === 'cpu') ?? defaultGenerator('cpu');
  }

  #here(): () => void {
    const all = [this.randomHere(), ...this.#encoders.map((encoder) => this.buffersHere(encoder))];
    return () => {
      for (const restore of all) restore();
    };
  }
}

// --- Checks ---

function check(towers: readonly GradCacheTower[], options: GradCacheOptions): void {
  if (towers.length === 0) throw new InvalidArgumentError('gradCache: there is no tower');
  towers.forEach((tower, place) => {
    const name = nameOf(place);
    const inputs = inputsOf(tower);
    if (inputs.length === 0) throw new InvalidArgumentError(`gradCache: ${name} has no input`);
    const samples = inputs[0]!.shape[0] ?? 0;
    for (const input of inputs) {
      if (input.ndim === 0 || input.sizeOf(0) !== samples || samples === 0) {
        throw new InvalidArgumentError(
          `gradCache: ${name}: inputs have one row a sample, as many each, at least one; found ` +
            inputs.map(({ shape }) => `[${shape.join(', ')}]`).join(' and '),
        );
      }
      if (input.requiresGrad) {
        throw new InvalidArgumentError(
          `gradCache: ${name}: an input requires gradients; let the encoder hold what learns, or detach it`,
        );
      }
    }
    const rule = tower.chunk ?? options.chunk;
    if (typeof rule === 'number') positiveInteger(rule, 'gradCache: chunk');
    else if (!(rule.most > 0)) {
      throw new InvalidArgumentError(
        `gradCache: the most that a chunk costs must be above 0, found ${String(rule.most)}`,
      );
    }
    const norms = batchDependentNorms(tower.encoder as AnyModule);
    const remembering = norms.find(remembersPasses);
    if (remembering !== undefined) {
      throw new InvalidArgumentError(
        `gradCache: the encoder of ${name} has a ${remembering.constructor.name}, which remembers earlier batches, and every chunk is ` +
          'encoded twice; use another norm, or put it in evaluation mode',
      );
    }
    const [norm] = norms;
    if (norm !== undefined && (options.batchNorm ?? 'refuse') === 'refuse') {
      throw new InvalidArgumentError(
        `gradCache: the encoder of ${name} has a ${norm.constructor.name} that normalises by the batch, of which a chunk is only a part. ` +
          "Put the batch norms in evaluation mode (frozen statistics), use another norm, or choose batchNorm: 'exact' (the whole " +
          "batch's statistics, one more pass for each batch norm) or 'chunk' (each chunk's own)",
      );
    }
  });
}
