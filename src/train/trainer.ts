import * as fs from 'node:fs';
import * as path from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { autocast, defaultGenerator, isTensor, noGrad, ops, scope, torch, type Device, type Tensor } from '../torch';
import { InvalidArgumentError, KontrastError } from '../torch/errors';
import type { JsonObject } from '../torch/state';
import type { Parameter } from '../nn';
import { clipGradientNorm } from '../optim';
import { describeCheckpoint, restoreCheckpoint, saveCheckpoint, type Part } from './checkpoint';
import { MetricsFile, type MetricsEntry } from './metrics';
import { optionFlag } from './options';
import { RateMeter, type Progress } from './progress';
import type { RunRecord } from './run-folder';
import type { IndexedBatch, StepOutput, Training } from './training';

/** Where a trainer keeps and shows what it does; each is optional. */
export interface TrainerOptions {
  /** Where the method computes; chooses which random generators a checkpoint holds. Default `'cpu'`. */
  device?: Device;
  /** The checkpoint file to write; its folder must exist. Default: none is written. */
  checkpointPath?: string;
  /** The metrics file to write. Default: none. */
  metricsPath?: string;
  /** Shows the course of training. Default: nothing is shown. */
  progress?: Progress;
  /** When aborted, training ends after the present step and saves a checkpoint. */
  signal?: AbortSignal;
  /** Written into checkpoints. */
  record?: RunRecord;
  /**
   * Called once the first step has gone well, before the trainer writes its first file: a batch that does not fit the method is found
   * before anything is replaced.
   */
  onFirstStep?: () => void;
}

/** How a training ended. */
export interface TrainingResult {
  /** Optimiser steps done in all. */
  steps: number;
  /** Whether it was stopped by its signal before the last step. */
  interrupted: boolean;
}

/**
 * Trains a method: batches, views, loss, gradients, optimiser, schedule; with checkpoints from which training goes on exactly, and
 * the course of it as metrics.
 *
 * Each step runs in a scope of its own, so its tensors are freed at its end, and the event loop turns between steps. A loss that
 * is not finite is an error before the optimiser has changed a weight; what the method moves on in its step (a queue, a momentum encoder) has moved
 * by then, so go on from the last checkpoint.
 *
 * @example
 * const trainer = new Trainer({ data, views, method, optimizer, state: { moco }, steps: 1000 }, { checkpointPath });
 * if (resume) trainer.resume();
 * const { interrupted } = await trainer.run();
 */
export class Trainer<Batch extends IndexedBatch, Views extends unknown[]> {
  /** Optimiser steps in all. */
  readonly stepsTotal: number;
  private readonly parts: Readonly<Record<string, Part>>;
  private readonly parameters: readonly Parameter[];
  private stepsDone = 0;
  /** The step that the checkpoint file holds; -1 before there is one. */
  private stepSaved = -1;
  private secondsBefore = 0;
  private metrics: MetricsFile | null = null;

  /** @throws {InvalidArgumentError} for a length, interval or limit that makes no sense, and a state part with a name of the trainer's own. */
  constructor(
    private readonly training: Training<Batch, Views>,
    private readonly options: TrainerOptions = {},
  ) {
    const { data, optimizer, schedule, state, steps, epochs } = training;
    if ((steps === undefined) === (epochs === undefined)) {
      throw new InvalidArgumentError("a training's length is either 'steps' or 'epochs': give one of them");
    }
    this.stepsTotal = steps ?? Math.round(epochs! * data.batchesPerEpoch);
    checkCount(steps === undefined ? 'the steps of all epochs' : 'steps', this.stepsTotal, 1);
    checkCount('checkpointEvery', training.checkpointEvery ?? 1, 1);
    checkCount('checkpointsKept', training.checkpointsKept ?? 0, 0);
    checkCount('metricsEvery', training.metricsEvery ?? 1, 1);
    if (training.clipGradientNorm !== undefined && !(training.clipGradientNorm > 0)) {
      throw new InvalidArgumentError(`clipGradientNorm must be more than 0, not ${training.clipGradientNorm}`);
    }

    const device = options.device ?? 'cpu';
    const own: Record<string, Part> = { data, optimizer, random_cpu: defaultGenerator('cpu') };
    if (schedule !== undefined) own.schedule = schedule;
    if (device !== 'cpu') own.random_device = defaultGenerator(device);
    const clash = Object.keys(state).find((part) => Object.hasOwn(own, part));
    if (clash !== undefined) {
      throw new InvalidArgumentError(
        `state part '${clash}' needs another name: the trainer saves its own under that one`,
      );
    }
    this.parts = { ...state, ...own };
    this.parameters = optimizer.groups.flatMap(({ parameters }) => parameters);
  }

  /** Optimiser steps done, those before a resume included. */
  get step(): number {
    return this.stepsDone;
  }

  /**
   * Takes over the state of a checkpoint, so that {@link run} goes on exactly where it stood.
   *
   * @param file Default: the trainer's own checkpoint file.
   * @throws {KontrastError} see {@link restoreCheckpoint}; nothing has changed then.
   */
  resume(file: string | undefined = this.options.checkpointPath): void {
    if (file === undefined) throw new InvalidArgumentError('there is no checkpoint to resume from: name its file');
    const { run, trainer } = describeCheckpoint(file);
    const { step, stepsTotal, seconds } = trainer;
    const { record } = this.options;
    if (run !== null && record !== undefined && run.recipe !== record.recipe) {
      throw new KontrastError(
        `the checkpoint '${file}' is of recipe '${run.recipe}', this run is of '${record.recipe}': put back a checkpoint of this ` +
          'run, or start it over (--overwrite)',
        { code: 'CHECKPOINT' },
      );
    }
    if (typeof step !== 'number' || typeof seconds !== 'number') {
      throw new KontrastError(
        `the checkpoint '${file}' does not say at which step it was saved: go on from an older one, or start the run over (--overwrite)`,
        { code: 'CHECKPOINT' },
      );
    }
    if (stepsTotal !== this.stepsTotal) {
      throw new KontrastError(
        `the checkpoint '${file}' is of a training of ${String(stepsTotal)} steps, this one has ${this.stepsTotal}: ` +
          'use the same length, or start a new run',
        { code: 'CHECKPOINT' },
      );
    }
    restoreCheckpoint(file, this.parts, { growing: ['optimizer'] });
    this.stepsDone = step;
    this.secondsBefore = seconds;
    this.stepSaved = file === this.options.checkpointPath ? step : -1;
  }

  /**
   * Trains until the last step or until the signal is aborted, and saves at the end.
   *
   * @throws {KontrastError} code `NON_FINITE`: the loss, the gradients' norm or a weight is NaN or infinite; the last checkpoint is as it was.
   */
  async run(): Promise<TrainingResult> {
    const { training, options, stepsTotal } = this;
    const { checkpointEvery = training.data.batchesPerEpoch, metricsEvery = 10 } = training;
    const firstStep = this.stepsDone;
    const openFiles = (): void => {
      options.onFirstStep?.();
      if (options.metricsPath !== undefined) {
        this.metrics = new MetricsFile(options.metricsPath, { resumeAt: firstStep });
      }
    };
    const started = performance.now();
    const elapsed = (): number => this.secondsBefore + (performance.now() - started) / 1000;
    const rate = new RateMeter();
    rate.add(0, elapsed());
    let logged = { seconds: elapsed(), images: 0 };
    let images = 0;
    options.progress?.start(stepsTotal, this.stepsDone);
    try {
      while (this.stepsDone < stepsTotal && options.signal?.aborted !== true) {
        const isLogged = (this.stepsDone + 1) % metricsEvery === 0 || this.stepsDone + 1 === stepsTotal;
        const { learningRate, loss, count, measured } = this.trainStep(isLogged);
        const step = ++this.stepsDone;
        if (step === firstStep + 1) openFiles();
        images += count;
        const seconds = elapsed();
        rate.add(count, seconds);
        const epoch = step / training.data.batchesPerEpoch;
        if (isLogged) {
          this.metrics?.append({
            step,
            epoch,
            loss,
            learningRate,
            imagesPerSecond: (images - logged.images) / (seconds - logged.seconds),
            residentBytes: process.memoryUsage.rss(),
            seconds,
            ...measured,
          } satisfies MetricsEntry);
          logged = { seconds, images };
        }
        const imagesPerSecond = rate.perSecond;
        const imagesLeft = (stepsTotal - step) * (images / (step - firstStep));
        const secondsLeft = imagesLeft / imagesPerSecond;
        options.progress?.update({ step, epoch, loss, learningRate, imagesPerSecond, secondsLeft });
        if (step % checkpointEvery === 0 && step < stepsTotal) this.save(elapsed());
        await setImmediate();
      }
      if (this.stepsDone === firstStep) openFiles();
      this.save(elapsed());
    } finally {
      options.progress?.stop();
      this.metrics?.close();
      this.metrics = null;
    }
    this.secondsBefore = elapsed();
    return { steps: this.stepsDone, interrupted: this.stepsDone < stepsTotal };
  }

  /** One optimiser step; everything made in it is freed at its end. */
  private trainStep(isLogged: boolean): {
    learningRate: number;
    loss: number;
    count: number;
    measured: Record<string, number>;
  } {
    const { data, method, optimizer, schedule, clipGradientNorm: maxNorm, precision = 'float32' } = this.training;
    const { device = 'cpu' } = this.options;
    const learningRate = optimizer.groups[0]!.lr;
    return scope(() => {
      const batch = data.next();
      const views = noGrad(() => this.training.views(batch));
      optimizer.zeroGrad();
      const output =
        precision === 'bfloat16'
          ? autocast({ device: device === 'cpu' ? 'cpu' : 'cuda', dtype: 'bfloat16' }, () => method.step(...views))
          : method.step(...views);
      // Backward is under way on the device while the loss is waited for.
      output.loss.backward();
      const loss = output.loss.itemSync();
      if (!Number.isFinite(loss)) throw this.nonFiniteStep(`the loss is ${loss}`, learningRate);
      if (maxNorm !== undefined) {
        const norm = clipGradientNorm(this.parameters, maxNorm).itemSync();
        if (!Number.isFinite(norm)) throw this.nonFiniteStep(`the norm of the gradients is ${norm}`, learningRate);
      }
      optimizer.step();
      schedule?.step();
      noGrad(() => method.afterStep?.());
      return { learningRate, loss, count: batch.indices.shape[0]!, measured: isLogged ? readMeasured(output) : {} };
    });
  }

  /** Writes the checkpoint, unless the file holds this step already. */
  private save(seconds: number): void {
    const { checkpointPath: target, record } = this.options;
    if (target === undefined || this.stepSaved === this.stepsDone) return;
    if (!areFinite(this.parameters)) {
      throw this.nonFinite(
        `a weight is NaN or infinite after step ${this.stepsDone} of ${this.stepsTotal}; nothing was saved.`,
      );
    }
    this.metrics?.sync();
    const trainer: JsonObject = { step: this.stepsDone, stepsTotal: this.stepsTotal, seconds };
    saveCheckpoint(target, { run: record ?? null, trainer, parts: this.parts });
    this.stepSaved = this.stepsDone;
    const kept = this.training.checkpointsKept ?? 0;
    if (kept > 0) keepCopy(target, this.stepsDone, kept);
  }

  private nonFiniteStep(what: string, learningRate: number): KontrastError {
    return this.nonFinite(
      `${what} in step ${this.stepsDone + 1} of ${this.stepsTotal}, at learning rate ${learningRate}; training stopped, and ` +
        'this step changed no weight that is trained.',
    );
  }

  /** Says what is kept and what helps, by the recipe's own options where it has them. */
  private nonFinite(what: string): KontrastError {
    const { checkpointPath, record } = this.options;
    const { precision, clipGradientNorm: maxNorm } = this.training;
    const kept =
      checkpointPath !== undefined && this.stepSaved >= 0
        ? ` The checkpoint of step ${this.stepSaved} is kept: '${checkpointPath}'.`
        : '';
    const options = record?.options ?? {};
    const named = (option: string, otherwise = ''): string =>
      Object.hasOwn(options, option) ? ` (${optionFlag(option)})` : otherwise;
    const remedies = [
      `a lower learning rate${named('learningRate')}`,
      'a longer warm-up',
      `a higher temperature${named('temperature')}`,
      ...(maxNorm === undefined ? [`clipping the gradients${named('clipGradientNorm', ' (clipGradientNorm)')}`] : []),
      ...(precision === 'bfloat16' ? [`precision 'float32'${named('precision')}`] : []),
    ];
    const over =
      record === undefined
        ? ''
        : ' A run keeps its options, so with others start it over (--overwrite) or start another (--out).';
    return new KontrastError(
      `${what}${kept} What often helps: ${remedies.join(', ')}; and look for NaN in the data.${over}`,
      { code: 'NON_FINITE' },
    );
  }
}

/** The numbers that a method gave besides its loss. */
function readMeasured(output: StepOutput): Record<string, number> {
  const measured: Record<string, number> = {};
  for (const [name, value] of Object.entries(output) as [string, unknown][]) {
    if (name === 'loss') continue;
    if (typeof value === 'number') measured[name] = value;
    else if (isTensor(value)) measured[name] = value.itemSync();
  }
  return measured;
}

/** Whether all parameters are finite: a gradient can turn NaN under a finite loss, and such weights must not replace a good checkpoint. */
function areFinite(parameters: readonly Parameter[]): boolean {
  return noGrad(() =>
    scope(() => {
      const norms = ops.aten._foreach_norm.Scalar([...parameters], 1) as Tensor[];
      return Number.isFinite(
        torch
          .stack(norms.map((norm) => norm.to({ device: 'cpu', dtype: 'float64' })))
          .sum()
          .itemSync(),
      );
    }),
  );
}

/** Keeps the checkpoint just written under the name of its step, and removes all but the newest of such copies. */
function keepCopy(checkpoint: string, step: number, count: number): void {
  const folder = path.dirname(checkpoint);
  const copy = path.join(folder, `checkpoint-step-${step}.safetensors`);
  fs.rmSync(copy, { force: true });
  try {
    // The next checkpoint is a new file that takes over the other name, so this one keeps its content.
    fs.linkSync(checkpoint, copy);
  } catch {
    fs.copyFileSync(checkpoint, copy); // A file system without hard links.
  }
  const steps = fs
    .readdirSync(folder)
    .map((name) => Number(/^checkpoint-step-(\d+)\.safetensors$/.exec(name)?.[1] ?? NaN))
    .filter((each) => !Number.isNaN(each))
    .sort((a, b) => b - a);
  for (const old of steps.slice(count)) fs.rmSync(path.join(folder, `checkpoint-step-${old}.safetensors`));
}

function checkCount(name: string, value: number, minimum: number): void {
  if (!Number.isSafeInteger(value) || value < minimum) {
    throw new InvalidArgumentError(`${name} must be a whole number of at least ${minimum}, not ${value}`);
  }
}
