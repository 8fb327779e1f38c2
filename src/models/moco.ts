import {
  Generator,
  InvalidArgumentError,
  noGrad,
  scope,
  torch,
  type Device,
  type MemoryFormat,
  type Tensor,
} from '../torch';
import { joinStates, jsonObject, partOfState, type StateDict, type Stateful } from '../torch/state';
import { InfoNCE } from '../contrast';
import { Queue } from '../memory';
import { Module, functional, type Parameter } from '../nn';
import { positiveInteger } from '../nn/checks';
import { normFactory1d, normFactory2d, shuffledBatch, type NormFactory, type RowExchange } from '../norm';
import type { MomentumSchedule } from '../optim';
import type { Encoder } from './encoder';
import { contrastBy, infoNceOverQueue, type MoCoObjective, type MoCoStep } from './moco-objective';
import { MomentumPair } from './momentum-pair';

/**
 * What keeps the encoder from telling the positive key by the batch statistics that it shares with the query (He et al. 2020,
 * section 3.3):
 *
 * - `'shuffle-split'`: both encoders normalise by groups of the batch, and the keys are put in a random order first, so that
 *   a query and its key are normalised in different company: ShuffleBN on one device. For s groups of a batch of N,
 *   the means of a query's group and its key's group correlate by about 1/s + s/N instead of 1, least at s = √N. With an
 *   `exchange` the keys of all ranks are shuffled together, as in the paper.
 * - `'eman'`: the key encoder normalises by running statistics, which are moving averages of the query encoder's (Cai et al.
 *   2021, "Exponential Moving Average Normalization"). Nothing of the present batch enters, and it costs nothing.
 * - `'split'`: groups without the shuffle. For comparison only: it leaks, as data-parallel training without ShuffleBN does.
 * - `'none'`: plain batch normalisation in both encoders. It leaks; right for encoders without batch normalisation.
 */
export type BatchNormAnswer = 'shuffle-split' | 'eman' | 'split' | 'none';

/** The normalisation layers that encoder and head are to be built with. */
export interface Norms {
  /** For images [N, C, H, W]. */
  norm2d: NormFactory;
  /** For vectors [N, C]. */
  norm1d: NormFactory;
}

/** What a {@link MoCo} is made from. */
export interface MoCoOptions {
  /** Makes the encoder; called twice. */
  encoder: (norms: Norms) => Encoder;
  /** Makes the projection head for an encoder's output size; called twice. Its output is the embedding. */
  head: (inputSize: number, norms: Norms) => Encoder;
  /** How many keys the queue holds. Default 65,536, as in the paper. */
  queueSize?: number;
  /** What is minimised, in place of InfoNCE over the queue: other losses, or other negatives made of the queue, such as mixed ones. */
  objective?: MoCoObjective;
  /** τ of InfoNCE. Default 0.07, as in the paper; MoCo v2 uses 0.2. Not beside `objective`, which has its own. */
  temperature?: number;
  /** m, or a schedule of it. Default 0.999. */
  momentum?: MomentumSchedule;
  /** Default `'shuffle-split'`. */
  batchNorm?: BatchNormAnswer;
  /** Into how many groups a batch is split for `'shuffle-split'` and `'split'`. Default 8; 1 with an `exchange`, where each rank is a group. */
  splits?: number;
  /**
   * How the ranks of a data-parallel training show each other keys: they are shuffled over all ranks for `'shuffle-split'`, and all ranks' keys
   * enter the queue of each, those of rank 0 first. Every rank needs the same `seed`, batches as large and the same steps; gradients of the
   * ranks are the caller's to average. Default: this process is alone.
   */
  exchange?: RowExchange;
  /** Whether each view is once the query and once the key, which doubles the work of a step. Default false. */
  symmetric?: boolean;
  /** Whether the other keys of the batch are negatives of InfoNCE too. Default false. Not beside `objective`. */
  inBatchNegatives?: boolean;
  /** Seeds the queue's random start and the shuffling. Default 0. */
  seed?: number;
  /** Default `'cpu'`. */
  device?: Device;
  /** The memory format of the weights of convolutions. Default `'contiguous_format'`. */
  memoryFormat?: MemoryFormat;
}

/** An encoder with its projection head. */
export class EncoderWithHead extends Module implements Encoder {
  readonly encoder: Encoder;
  readonly head: Encoder;
  readonly outputSize: number;

  constructor(options: { encoder: Encoder; head: Encoder }) {
    super();
    this.encoder = options.encoder;
    this.head = options.head;
    this.outputSize = options.head.outputSize;
  }

  override forward(x: Tensor): Tensor {
    return this.head.forward(this.encoder.forward(x));
  }
}

/**
 * Momentum contrast (He et al. 2020; with a projection head as in MoCo v2, Chen et al. 2020): an encoder learns to tell the
 * embedding of another view of the same image from a queue of embeddings of other images. The keys, positive and queued,
 * come from a slowly following copy of the encoder.
 *
 * ```ts
 * const { loss } = moco.step(viewA, viewB);
 * optimizer.zeroGrad();
 * loss.backward();
 * optimizer.step();
 * ```
 */
export class MoCo implements Stateful {
  readonly pair: MomentumPair<EncoderWithHead>;
  readonly queue: Queue;
  /** What is minimised. */
  readonly objective: MoCoObjective;
  readonly batchNorm: BatchNormAnswer;
  readonly symmetric: boolean;
  readonly #exchange: RowExchange | undefined;
  readonly #generator: Generator;

  constructor(options: MoCoOptions) {
    const { queueSize = 65536, momentum = 0.999, batchNorm = 'shuffle-split', exchange } = options;
    const { splits = exchange === undefined ? 8 : 1 } = options;
    const { symmetric = false, seed = 0, device = 'cpu', memoryFormat } = options;
    this.objective = objectiveOf(options);
    this.batchNorm = batchNorm;
    this.symmetric = symmetric;
    this.#exchange = exchange;
    const norms = normsFor(batchNorm, positiveInteger(splits, 'MoCo: splits'));
    this.pair = new MomentumPair({
      build: () => {
        const encoder = options.encoder(norms);
        return new EncoderWithHead({ encoder, head: options.head(encoder.outputSize, norms) });
      },
      momentum,
      buffers: batchNorm === 'eman' ? 'average' : 'keep',
    });
    this.pair.to({ device, memoryFormat });
    this.#generator = new Generator({ seed });
    this.queue = new Queue({ size: queueSize, dimension: this.pair.query.outputSize, device });
    // Random directions are negatives from the first step on, as in the paper's code.
    const start = torch.randn([queueSize, this.queue.dimension], { generator: this.#generator });
    this.queue.enqueue(functional.normalize(start).to({ device }));
    this.train();
  }

  /** The encoder that is trained, without its head: what evaluation and later use want. */
  get encoder(): Encoder {
    return this.pair.query.encoder;
  }

  /** The slowly following copy of the encoder, without its head. */
  get keyEncoder(): Encoder {
    return this.pair.key.encoder;
  }

  /** What the optimiser trains: the parameters of the query encoder and its head. */
  parameters(): Parameter[] {
    return this.pair.query.parameters();
  }

  /** The same by name, to sort them into groups. */
  namedParameters(): Map<string, Parameter> {
    return this.pair.query.namedParameters();
  }

  /** Puts both encoders in training mode, or in evaluation mode with `false`. */
  train(on = true): this {
    this.pair.query.train(on);
    this.pair.key.train(on && this.batchNorm !== 'eman');
    return this;
  }

  /** Puts both encoders in evaluation mode. */
  eval(): this {
    return this.train(false);
  }

  /** Moves everything; make the optimiser afterwards. */
  to(options: { device?: Device; memoryFormat?: MemoryFormat }): this {
    this.pair.to(options);
    this.queue.to({ device: options.device });
    return this;
  }

  /**
   * One step: the key encoder follows the query encoder, both encode, the loss is taken against the queue as it was, and the
   * keys enter the queue. The gradient and the optimiser's step are the caller's.
   *
   * May run under autocast; similarities and the loss are float32 all the same. Beside the loss and the similarities it gives what numbers the
   * objective gives, with `symmetric` the means of both directions.
   *
   * @param viewA the queries [N, …]
   * @param viewB another view of the same samples, in the same order
   * @throws InvalidArgumentError if the views differ in shape, or the keys do not fit in the queue, before anything changes
   */
  step(viewA: Tensor, viewB: Tensor): MoCoStep {
    this.#checkViews(viewA, viewB);
    this.pair.update();
    return scope(() => {
      // A copy, since the gradient needs the keys as they were after new ones have come in.
      const negatives = this.queue.entries().clone();
      const directions = this.symmetric
        ? [this.#contrast(viewA, viewB, negatives), this.#contrast(viewB, viewA, negatives)]
        : [this.#contrast(viewA, viewB, negatives)];
      this.queue.enqueue(this.#ofAllRanks(torch.cat(directions.map(({ keys }) => keys))));
      return meanOf(directions.map(({ step }) => step));
    });
  }

  /** Everything: both encoders, the queue, the count of steps, the state of the random numbers, and that of the objective if it has one. */
  stateDict(): StateDict {
    const generator = { tensors: new Map([['state', this.#generator.getState()]]), values: {} };
    const parts = { pair: this.pair.stateDict(), queue: this.queue.stateDict(), generator };
    const objective = this.objective.stateDict?.();
    return joinStates(objective === undefined ? parts : { ...parts, objective });
  }

  loadStateDict(state: StateDict): void {
    const pair = partOfState(state, 'pair');
    const queue = partOfState(state, 'queue');
    const random = partOfState(state, 'generator').tensors.get('state');
    if (random === undefined) throw new InvalidArgumentError("MoCo: the state dict lacks 'generator.state'");
    const known = 'objective' in jsonObject(state.values, 'the values of the state');
    if (known !== (this.objective.loadStateDict !== undefined)) {
      throw new InvalidArgumentError(
        `MoCo: the state dict ${known ? 'holds' : 'lacks'} the state of an objective: it is of a MoCo with another objective`,
      );
    }
    this.pair.checkStateDict(pair);
    this.queue.checkStateDict(queue);
    new Generator().setState(random);
    // The first that may refuse what it gets and change something.
    if (known) this.objective.loadStateDict?.(partOfState(state, 'objective'));
    this.#generator.setState(random);
    this.queue.loadStateDict(queue);
    this.pair.loadStateDict(pair);
  }

  /** Frees both encoders and the queue now. */
  dispose(): void {
    this.pair.dispose();
    this.queue.dispose();
  }

  #checkViews(viewA: Tensor, viewB: Tensor): void {
    const [a, b] = [viewA.shape.join(', '), viewB.shape.join(', ')];
    if (a !== b) {
      throw new InvalidArgumentError(`MoCo: the two views must have one shape, found [${a}] and [${b}]`);
    }
    const samples = viewA.sizeOf(0);
    const ranks = this.#exchange?.ranks ?? 1;
    const keys = samples * (this.symmetric ? 2 : 1) * ranks;
    if (samples === 0) throw new InvalidArgumentError('MoCo: the batch is empty');
    if (keys > this.queue.size) {
      throw new InvalidArgumentError(
        `MoCo: a step of ${keys} keys (a batch of ${samples}${this.symmetric ? ', both views' : ''}` +
          `${ranks === 1 ? '' : `, ${ranks} ranks`}) is larger than the ` +
          `queue of ${this.queue.size}; use a larger queue or a smaller batch`,
      );
    }
  }

  #ofAllRanks(keys: Tensor): Tensor {
    if (this.#exchange === undefined) return keys;
    const { ranks } = this.#exchange;
    const gathered = this.#exchange.allGather(keys);
    if (gathered.sizeOf(0) !== ranks * keys.sizeOf(0)) {
      throw new InvalidArgumentError(
        `MoCo: the exchange gave ${gathered.sizeOf(0)} keys of ${ranks} ranks with ${keys.sizeOf(0)} each`,
      );
    }
    return gathered;
  }

  #contrast(queryView: Tensor, keyView: Tensor, negatives: Tensor): Direction {
    const keys = noGrad(() => {
      const encode = (x: Tensor): Tensor => embed(this.pair.key, x);
      return this.batchNorm === 'shuffle-split'
        ? shuffledBatch(keyView, encode, { generator: this.#generator, exchange: this.#exchange })
        : encode(keyView);
    });
    return { keys, step: contrastBy(this.objective, embed(this.pair.query, queryView), keys, negatives) };
  }
}

/** One view as the queries, the other as the keys. */
interface Direction {
  keys: Tensor;
  step: MoCoStep;
}

function objectiveOf({ objective, temperature, inBatchNegatives }: MoCoOptions): MoCoObjective {
  if (objective === undefined) {
    return infoNceOverQueue(new InfoNCE({ temperature: temperature ?? 0.07, inBatchNegatives, normalize: false }));
  }
  if (temperature !== undefined || inBatchNegatives !== undefined) {
    throw new InvalidArgumentError(
      'MoCo: temperature and inBatchNegatives are of the default objective: with another, give it what it needs',
    );
  }
  if ((objective.stateDict === undefined) !== (objective.loadStateDict === undefined)) {
    throw new InvalidArgumentError('MoCo: an objective has both stateDict and loadStateDict, or neither');
  }
  return objective;
}

/** The mean of each number over the directions. */
function meanOf(steps: MoCoStep[]): MoCoStep {
  const [first] = steps as [MoCoStep];
  if (steps.length === 1) return first;
  const means = Object.keys(first).map((name) => [name, torch.stack(steps.map((step) => step[name]!)).mean()]);
  return Object.fromEntries(means) as MoCoStep;
}

/** Embeddings of length one, in float32 at least. */
function embed(module: Module, x: Tensor): Tensor {
  return scope(() => {
    const output = module.forward(x);
    return functional.normalize(output.dtype === 'float64' ? output : output.to('float32'));
  });
}

function normsFor(answer: BatchNormAnswer, splits: number): Norms {
  if (answer === 'eman' || answer === 'none') {
    return { norm2d: normFactory2d('batch'), norm1d: normFactory1d('batch') };
  }
  const split = { name: 'split', splits } as const;
  return { norm2d: normFactory2d(split), norm1d: normFactory1d(split) };
}
