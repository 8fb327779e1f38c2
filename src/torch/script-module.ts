/// <reference lib="esnext.disposable" preserve="true" />
/** TorchScript modules: what `torch.jit.save` writes, run without Python. */
import { inspect } from 'node:util';
import { DisposedError, InvalidArgumentError } from './errors';
import { wrap } from './frame';
import { native } from './native';
import { inScope, openScope } from './scope';
import { decodeResult, encodeArgument, type ScriptArgument, type ScriptResult } from './script-values';
import type { Tensor } from './tensor';
import type { Device } from './types';

/** Options of {@link ScriptModule.load}. */
export interface LoadScriptOptions {
  /** Where the module's tensors are to live. Default: where they were when the file was written. */
  device?: Device;
}

const collected = new FinalizationRegistry<number>((script) => {
  native.scriptRelease(script);
});

function checkPath(path: string): string {
  if (typeof path !== 'string' || path === '' || path.includes('\0')) {
    throw new InvalidArgumentError(`the path of a TorchScript file is a text, not ${inspect(path, { depth: 0 })}`);
  }
  return path;
}

function checkDevice(device: unknown): void {
  if (typeof device !== 'string') {
    throw new InvalidArgumentError(`a device is a name such as 'cpu', not ${inspect(device, { depth: 0 })}`);
  }
}

function deviceOf({ device }: LoadScriptOptions): string | undefined {
  if (device !== undefined) checkDevice(device);
  return device;
}

/**
 * A TorchScript module: a program with its parameters, written by `torch.jit.save` after `torch.jit.script` or
 * `torch.jit.trace`, and run by LibTorch's own interpreter.
 *
 * **A TorchScript file is a program. Load it only from a source that you trust.** No Python takes part, but the program calls any operator
 * of LibTorch, some of which read and write files, and it may run for ever. LibTorch's reader was not made for files that somebody meant to
 * do harm: such a file can end the process. To exchange nothing but tensors, use safetensors.
 *
 * ```ts
 * const encoder = await ScriptModule.load('encoder.pt', { device: 'cpu' });
 * encoder.eval();
 * const features = noGrad(() => encoder.forward(images));
 * const same = await encoder.forwardAsync(images); // on another thread
 * ```
 *
 * Tensors in results join the scope that is open when the method is called. A method's calls run one after the other, also those in the
 * background, since a method may change the module; load the file twice to run two calls at once. A module is freed by
 * {@link ScriptModule.dispose} or by garbage collection; scopes leave it alone.
 */
export class ScriptModule {
  /** The module in the addon; 0 once disposed. */
  #script: number;

  private constructor(script: number) {
    this.#script = script;
    collected.register(this, script, this);
  }

  /**
   * Reads a file on another thread.
   *
   * @throws TorchError with code `SCRIPT_FILE`, naming the file, if it cannot be read or holds no TorchScript module
   */
  static async load(path: string, options: LoadScriptOptions = {}): Promise<ScriptModule> {
    return new ScriptModule(await native.scriptLoadAsync(checkPath(path), deviceOf(options)));
  }

  /** As {@link ScriptModule.load}, at once. */
  static loadSync(path: string, options: LoadScriptOptions = {}): ScriptModule {
    return new ScriptModule(native.scriptLoad(checkPath(path), deviceOf(options)));
  }

  #open(): number {
    if (this.#script === 0) throw new DisposedError('this TorchScript module was disposed');
    return this.#script;
  }

  /**
   * Runs the method `forward`. What it gives is up to the file: say what you know it to be, as in
   * `forward<[Tensor, Tensor]>(x)`; nothing checks it.
   *
   * @throws TorchTypeError naming the argument that the method's schema does not take
   * @throws TorchError if an operator fails, with TorchScript's own stack
   * @throws TorchError with code `SCRIPT_EXCEPTION` if the program raises an exception
   */
  forward<Result extends ScriptResult = Tensor>(...given: ScriptArgument[]): Result {
    return this.run('forward', ...given);
  }

  /**
   * As {@link ScriptModule.forward}, on another thread, with this one's grad mode, inference mode and autocast. The
   * arguments are not copied: leave them as they are until the promise settles.
   */
  forwardAsync<Result extends ScriptResult = Tensor>(...given: ScriptArgument[]): Promise<Result> {
    return this.runAsync('forward', ...given);
  }

  /** As {@link ScriptModule.forward}, any method by its name. */
  run<Result extends ScriptResult = Tensor>(method: string, ...given: ScriptArgument[]): Result {
    return decodeResult(native.scriptRun(this.#open(), method, given.map(encodeArgument)), wrap) as Result;
  }

  /** As {@link ScriptModule.forwardAsync}, any method by its name. */
  async runAsync<Result extends ScriptResult = Tensor>(method: string, ...given: ScriptArgument[]): Promise<Result> {
    const scope = openScope();
    const result = await native.scriptRunAsync(this.#open(), method, given.map(encodeArgument));
    return inScope(scope, () => decodeResult(result, wrap)) as Result;
  }

  /** The schema of each method by its name. */
  methods(): Map<string, string> {
    const list = native.scriptMethods(this.#open());
    return new Map(Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i]!, list[2 * i + 1]!]));
  }

  /** The parameters by dotted path, those of submodules included: the module's own tensors, by new handles. */
  parameters(): Map<string, Tensor> {
    return this.#tensors(false);
  }

  /** The buffers by dotted path, as {@link ScriptModule.parameters} gives the parameters. */
  buffers(): Map<string, Tensor> {
    return this.#tensors(true);
  }

  #tensors(buffers: boolean): Map<string, Tensor> {
    const list = native.scriptTensors(this.#open(), buffers);
    const tensors = new Map<string, Tensor>();
    for (let i = 0; i < list.length; i += 2) tensors.set(list[i] as string, wrap(list[i + 1] as number) as Tensor);
    return tensors;
  }

  /** Puts the module in training mode, or in evaluation mode with `false`. A file keeps the mode in which it was written. */
  train(on = true): this {
    if (typeof on !== 'boolean') throw new InvalidArgumentError(`train() takes true or false, not ${inspect(on)}`);
    native.scriptTrain(this.#open(), on);
    return this;
  }

  /** Puts the module in evaluation mode: no dropout, normalisation by running statistics. */
  eval(): this {
    return this.train(false);
  }

  /**
   * Moves parameters and buffers, in place: handles of them see it. Tensors that the program holds as constants stay where they are;
   * the option `device` of {@link ScriptModule.load} moves those as well.
   */
  to(device: Device): this {
    checkDevice(device);
    native.scriptTo(this.#open(), device);
    return this;
  }

  /** Frees the module now. Calls in the background still end; handles of its tensors stay valid. */
  dispose(): void {
    if (this.#script === 0) return;
    collected.unregister(this);
    native.scriptRelease(this.#script);
    this.#script = 0;
  }

  /** Whether the module was freed. */
  get isDisposed(): boolean {
    return this.#script === 0;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
