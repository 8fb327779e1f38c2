/// <reference lib="esnext.disposable" preserve="true" />
/** CUDA graphs: a step's work, recorded once and given to the device as a whole. */
import { inspect } from 'node:util';
import { synchronous } from './autograd';
import { cuda } from './cuda';
import { checkDeviceName, synchronize } from './devices';
import { InvalidArgumentError, TorchError } from './errors';
import { native, type NativeGraph } from './native';
import { keep, scope } from './scope';
import { Stream, withStream } from './streams';
import type { Device } from './types';

/** Options of {@link CudaGraph.capture}. */
export interface CudaGraphOptions {
  /** Default: the current CUDA device. */
  device?: Device;
  /** How often the step runs before it is captured, so that libraries choose their algorithms and buffers exist. Default: 3. */
  warmup?: number;
  /**
   * A graph whose memory this one shares. Their replays must follow each other in the order of their captures, since each may overwrite
   * what the other left. Default: memory of its own.
   */
  shareMemory?: CudaGraph;
}

let isCapturing = false;

/**
 * The work of a step on a CUDA device, recorded once. A replay gives the device all of it in one call, which spares the time
 * that JavaScript and LibTorch need for each operator: for steps of many small operators.
 *
 * A replay does what the device did, with the same memory: it reads the tensors that the step read and writes those it wrote.
 * So new data is copied into tensors that stay (`input.copy_(batch)`), and the step's results, {@link CudaGraph.output}, are
 * the same tensors each time.
 * What JavaScript did is not repeated: a number that the step computed from, such as a learning rate or a step count, stays as it was.
 *
 * ```ts
 * const input = torch.zeros([64, 32], { device: 'cuda' });
 * const graph = CudaGraph.capture(() => encoder.forward(input));
 * input.copy_(batch);
 * const features = graph.replay();
 * ```
 */
export class CudaGraph<T = unknown> {
  /** The device, with its index. */
  readonly device: Device;
  /** What the step returned. Each replay writes new values into its tensors. */
  readonly output: T;
  private graph: NativeGraph | null;

  private constructor(device: Device, graph: NativeGraph, output: T) {
    this.device = device;
    this.graph = graph;
    this.output = output;
  }

  /**
   * Runs a step a few times, then records it. The runs before are real ones: a training step trains.
   *
   * The step must be synchronous and may not look at what the device computed (`item()`, `data()`, printing, copies to the CPU,
   * shapes that depend on values), draw random numbers from other than the device's default generator, or start another capture.
   * Tensors that it reads and did not make, weights and inputs, must live as long as the graph.
   *
   * @param step - gives tensors, or arrays, plain objects and maps of them
   * @throws InvalidArgumentError on the CPU, without a CUDA device, for an async step, or during another capture in this thread
   * @throws TorchError with the code `GRAPH_CAPTURE` if the step does what cannot be captured; the device can be used as before
   * @throws TorchNotImplementedError if this LibTorch has no CUDA graphs
   */
  static capture<T>(step: () => T, options: CudaGraphOptions = {}): CudaGraph<T> {
    const { device = 'cuda', warmup = 3, shareMemory } = options;
    if (typeof step !== 'function') throw new InvalidArgumentError('CudaGraph.capture takes a callback: the step');
    if (!Number.isInteger(warmup) || warmup < 0) {
      throw new InvalidArgumentError(`warmup is a whole number from 0 on, not ${inspect(warmup)}`);
    }
    if (!checkDeviceName(device).startsWith('cuda')) {
      throw new InvalidArgumentError(
        `only CUDA devices have graphs, and '${device}' is none: call the step itself, or give { device: 'cuda' }`,
      );
    }
    if (isCapturing) throw new InvalidArgumentError('a graph is being captured; a step cannot capture another one');
    if (shareMemory?.graph === null) throw new InvalidArgumentError('the graph to share memory with was disposed');
    // The default stream cannot be captured.
    const stream = new Stream(device);
    if (shareMemory !== undefined && shareMemory.device !== stream.device) {
      throw new InvalidArgumentError(
        `a graph on '${stream.device}' cannot share the memory of one on '${shareMemory.device}'`,
      );
    }
    stream.wait(Stream.current(stream.device));
    isCapturing = true;
    try {
      return withStream(stream, () => {
        for (let i = 0; i < warmup; i++) {
          scope(() => {
            synchronous('CudaGraph.capture', step());
          });
        }
        synchronize(stream.device);
        // What the runs left is of no use to the graph, whose memory is apart.
        cuda.emptyCache();
        return CudaGraph.record(step, stream.device, shareMemory?.graph ?? null);
      });
    } finally {
      isCapturing = false;
    }
  }

  private static record<T>(step: () => T, device: Device, sharing: NativeGraph | null): CudaGraph<T> {
    const graph = native.beginCapture(sharing);
    let output: T;
    try {
      output = keep(scope(() => synchronous('CudaGraph.capture', step())));
    } catch (error) {
      abort(graph);
      throw explain(error);
    }
    try {
      native.endCapture(graph);
    } catch (error) {
      throw explain(error);
    }
    return new CudaGraph(device, graph, output);
  }

  /**
   * Gives the device the recorded work, in its current stream, and does not wait for it.
   *
   * @returns {@link CudaGraph.output}
   * @throws InvalidArgumentError if the graph was disposed
   */
  replay(): T {
    if (this.graph === null) throw new InvalidArgumentError('this graph was disposed and cannot be replayed');
    native.replayGraph(this.graph);
    return this.output;
  }

  /** Whether {@link CudaGraph.dispose} was called. */
  get isDisposed(): boolean {
    return this.graph === null;
  }

  /** Gives the graph's memory back, save that of the output, whose tensors stay as they are. */
  dispose(): void {
    if (this.graph === null) return;
    native.resetGraph(this.graph);
    this.graph = null;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Ends a capture that is of no use. What goes wrong now follows from the error that the caller reports. */
function abort(graph: NativeGraph): void {
  try {
    native.endCapture(graph);
    native.resetGraph(graph);
  } catch {
    // A capture that the device refused ends by this error.
  }
}

/** Says what a step may not do, where the device refused to capture it. */
function explain(error: unknown): unknown {
  if (!(error instanceof TorchError) || !/captur/i.test(error.message)) return error;
  return new TorchError(
    `the step cannot be captured: ${error.message}\nWhile a graph is captured nothing may wait for the device: no item(), ` +
      'data(), printing, copies to the CPU, or operators whose shapes depend on values, such as nonzero().',
    { code: 'GRAPH_CAPTURE', cause: error },
  );
}
