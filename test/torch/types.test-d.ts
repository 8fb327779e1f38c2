/**
 * What the generated types accept and refuse. Nothing here runs: the type check (`tsc -p tsconfig.check.json`) is the test,
 * and a call marked `@ts-expect-error` that is accepted fails it.
 */
import type { AsyncFunctions } from '../../src/torch/async-functions';
import { defineFunction } from '../../src/torch/custom-function';
import type { Torch } from '../../src/torch/functions';
import type { TorchFunctions } from '../../src/torch/functions.generated';
import { slice } from '../../src/torch/indexing';
import type { Generator } from '../../src/torch/random';
import { openSafetensors, readSafetensors } from '../../src/torch/safetensors';
import { ScriptModule } from '../../src/torch/script-module';
import { Event, Stream, withStream } from '../../src/torch/streams';
import type { Tensor } from '../../src/torch/tensor';
import type { Device, DType } from '../../src/torch/types';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

/** Whether `T` is exactly the type of the argument, as a type: `true`, or what was expected instead of what. */
declare function is<T>(): <U>(value: U) => Equal<T, U> extends true ? true : { expected: T; actual: U };
/** Fails to compile unless each check is true. */
declare function same(...checks: true[]): true;

export function arithmetic(x: Tensor, y: Tensor, either: Tensor | number): void {
  same(is<Tensor>()(x.matmul(y).div(0.1)));
  x.add(y);
  x.add(1);
  x.add(either);
  x.add(1n);
  x.add(true);
  x.add({ re: 1, im: 2 });
  x.add_(y, { alpha: 2 });
  x.div(y, { roundingMode: 'floor' });
  x.pow(2).sub(y).mul(0.5).neg();
  // @ts-expect-error not a tensor and not a number
  x.add('1');
  // @ts-expect-error an unknown keyword
  x.add(y, { beta: 2 });
  // @ts-expect-error an unknown rounding mode
  x.div(y, { roundingMode: 'round' });
  // @ts-expect-error an argument is missing
  x.matmul();
  // @ts-expect-error one argument too many
  x.matmul(y, y);
  // @ts-expect-error no such operator
  x.matmull(y);
}

export function reductions(x: Tensor, dtype: DType | undefined): void {
  same(is<Tensor>()(x.sum()));
  x.sum([0], true);
  x.sum(0, true, { dtype: 'float64' });
  x.sum([0, 1], { keepdim: true, dtype });
  x.sum(null, { dtype: 'int64' });
  x.sum({ dtype: 'float64' });
  x.amax([1], { keepdim: true });
  x.amax({ dim: 1, keepdim: true });
  x.std([0], { correction: 0 });
  x.logSoftmax(1);
  x.logSoftmax(1, 'float32');
  x.logSoftmax(1, { dtype: 'float32' });
  // @ts-expect-error a tensor is not a set of options, though it has a dtype
  x.sum(x);
  // @ts-expect-error nor is it here
  x.sum([0], x);
  // @ts-expect-error an array is not a set of options
  x.sum([0], true, []);
  // @ts-expect-error keepdim is a boolean
  x.sum([0], 1);
  // @ts-expect-error an unknown dtype
  x.sum({ dtype: 'float31' });
  // @ts-expect-error keepDim is not how LibTorch spells it
  x.sum([0], { keepDim: true });
}

export function results(x: Tensor, y: Tensor): void {
  same(is<number>()(x.numel()), is<number>()(x.dim()), is<boolean>()(x.equal(y)), is<boolean>()(x.isContiguous()));
  same(is<Tensor[]>()(x.split(2)), is<Tensor[]>()(x.unbind()));
  same(is<Tensor>()(x.max()), is<Tensor>()(x.max(y)));
  same(is<readonly [values: Tensor, indices: Tensor]>()(x.max(1)));
  const [values, indices] = x.topk(5, 1, { largest: false });
  same(is<Tensor>()(values), is<Tensor>()(indices));
  // @ts-expect-error there is no third result
  x.topk(5)[2];
}

export function shapes(x: Tensor, indices: readonly (Tensor | null)[]): void {
  x.view([2, -1]).reshape([4]).permute([1, 0]).transpose(0, 1);
  x.view('int32');
  x.view(x.shape);
  x.contiguous({ memoryFormat: 'channels_last' });
  x.index(indices);
  x.flatten(1);
  x.flatten({ endDim: 1 });
  x.squeeze().squeeze(0).squeeze([0, 1]);
  // @ts-expect-error a shape is one array
  x.view(2, -1);
  // @ts-expect-error an unknown memory format
  x.contiguous({ memoryFormat: 'channelsLast' });
}

export function functions(torch: TorchFunctions, x: Tensor, generator: Generator, device: Device): void {
  torch.zeros([2, 3]);
  torch.zeros([2], { dtype: 'bfloat16', device, requiresGrad: true, pinMemory: false });
  torch.zeros([2], { device: 'cuda:1' });
  torch.randn([2], { generator, dtype: 'float32', device: 'cpu' });
  torch.full([2], 0.5, { dtype: 'float32' });
  torch.arange(5);
  torch.arange(0, 5, 2, { dtype: 'int64' });
  torch.arange(0, 5, { dtype: 'int64' });
  torch.randperm(10, { generator, dtype: 'int64' });
  torch.zerosLike(x, { dtype: 'float32', memoryFormat: 'preserve_format' });
  torch.cat([x, x], 1);
  torch.cat([x, x], { dim: 1 });
  torch.stack([x, x]);
  torch.where(x, x, 0);
  torch.einsum('ij,jk->ik', [x, x]);
  torch.conv2d(x, x);
  torch.conv2d(x, x, null, 2, [1, 1]);
  torch.conv2d(x, x, { stride: 2, padding: 'same' });
  torch.conv2d(x, x, undefined, 2, { groups: 2 });
  torch.layerNorm(x, [4], x, x, 1e-5);
  torch.batchNorm(x, null, null, x, x, true, 0.1, 1e-5, false);
  torch.normal(0, 1, [2, 3], { generator, requiresGrad: true });
  torch.add(x, 1, { alpha: 2 });
  torch.crossEntropyLoss(x, x, { labelSmoothing: 0.1 });
  torch.scaledDotProductAttention(x, x, x, { isCausal: true });
  // @ts-expect-error a tensor is not a set of options
  torch.zeros([2], x);
  // @ts-expect-error an unknown device
  torch.zeros([2], { device: 'gpu' });
  // @ts-expect-error requiresGrad is for what makes a tensor
  torch.cat([x], { dim: 1, requiresGrad: true });
  // @ts-expect-error a list of tensors
  torch.cat(x);
  // @ts-expect-error an unknown kind of padding
  torch.conv2d(x, x, { padding: 'full' });
  // @ts-expect-error private operators are reached by `ops`
  torch._fusedSgd_;
  // @ts-expect-error written by hand, on the tensor only
  torch.detach(x);
}

export function asynchronous(torch: { async: AsyncFunctions }, x: Tensor): void {
  same(is<Promise<Tensor>>()(torch.async.matmul(x, x)), is<Promise<Tensor[]>>()(torch.async.split(x, 2)));
  same(is<Promise<readonly [values: Tensor, indices: Tensor]>>()(torch.async.topk(x, 2)));
  void torch.async.sum(x, [0], { keepdim: true, dtype: 'float64' });
  // @ts-expect-error a promise is no tensor
  torch.async.matmul(x, x).div(2);
  // @ts-expect-error nor an argument
  void torch.async.matmul(torch.async.relu(x), x);
  // @ts-expect-error not a tensor and not a number
  void torch.async.add(x, '1');
  // @ts-expect-error an unknown keyword
  void torch.async.add(x, x, { beta: 2 });
  // @ts-expect-error no such operator
  void torch.async.matmull(x, x);
  // @ts-expect-error they cannot be replaced
  torch.async.relu = torch.async.abs;
}

export async function scriptModules(x: Tensor): Promise<void> {
  // @ts-expect-error it is loaded from a file
  new ScriptModule(1);
  const script = await ScriptModule.load('model.pt', { device: 'cpu' });
  same(is<Tensor>()(script.run('forward', x)), is<Promise<Tensor>>()(script.runAsync('forward', x)));
  same(is<Tensor[]>()(script.run<Tensor[]>('parts', x, 1, true, null, [x, 'two'])));
  // @ts-expect-error the method's name comes first
  script.run(x);
  // @ts-expect-error a function is no argument
  script.run('forward', () => x);
  // @ts-expect-error nor a result
  script.run<() => void>('forward');
  // @ts-expect-error an unknown device
  script.to('gpu');
  // @ts-expect-error an unknown option
  ScriptModule.loadSync('model.pt', { map: true });
}

export function customFunctions(x: Tensor): void {
  const scale = defineFunction({
    name: 'scale',
    forward(context, x: Tensor, factor: number) {
      context.save(x);
      return x.mul(factor);
    },
    backward: (context, gradient) => [gradient.mul(context.saved[0]!), null],
  });
  same(is<Tensor>()(scale(x, 2)));
  // @ts-expect-error an argument is missing
  scale(x);
  // @ts-expect-error not a number
  scale(x, x);
  // @ts-expect-error there is one result
  scale(x, 2)[0];
  // @ts-expect-error a name is needed
  defineFunction({ forward: (_context, x: Tensor) => x, backward: (_context, gradient) => gradient });
  // @ts-expect-error a function without a backward pass
  defineFunction({ name: 'half', forward: (_context, x: Tensor) => x });
  // @ts-expect-error forward gives tensors
  defineFunction({ name: 'count', forward: (_context, x: Tensor) => x.numel(), backward: () => null });
  // @ts-expect-error and backward too
  defineFunction({ name: 'one', forward: (_context, x: Tensor) => x, backward: () => 1 });
}

export function hooks(x: Tensor): void {
  const hook = x.registerHook((gradient) => gradient.mul(2));
  x.registerHook((gradient) => {
    same(is<Tensor>()(gradient));
  });
  hook.remove();
  x.setPostAccumulateGradHook((leaf) => leaf.grad?.dispose());
  x.setPostAccumulateGradHook(null);
  // @ts-expect-error a gradient is a tensor
  x.registerHook((gradient) => gradient.numel());
  // @ts-expect-error a hook gets the gradient alone
  x.registerHook((gradient: Tensor, other: Tensor) => gradient.add(other));
  // @ts-expect-error hooks do not wait
  x.registerHook(async (gradient) => gradient);
  // @ts-expect-error null removes the other kind only
  x.registerHook(null);
  // @ts-expect-error a hook has no other members
  hook.dispose();
}

export function indexing(x: Tensor): void {
  same(is<Tensor>()(x.at(0, slice(1, 5, 2), '...', null, [0, 2], x, Int32Array.of(1))));
  x.setAt_(7, slice(1, 5)).addAt_(x, [true, false]).setAt_([1, 2], 0);
  // @ts-expect-error ranges are made by slice()
  x.at('1:5');
  // @ts-expect-error numbers with fractions are no positions
  x.at(Float32Array.of(1));
  // @ts-expect-error nor is an object
  x.at({ start: 1 });
  // @ts-expect-error the value comes first, and is no range
  x.setAt_(slice(1, 5), 7);
  // @ts-expect-error a value is needed
  x.setAt_();
  // @ts-expect-error a string is no value
  x.addAt_('1', 0);
  // @ts-expect-error a step is a number
  slice(0, 5, null);
}

export function streams(stream: Stream, event: Event): void {
  same(is<number>()(withStream(stream, () => 1)), is<Event>()(stream.record()), is<Promise<void>>()(event.wait()));
  new Stream('cuda:0', { priority: -1 }).wait(event);
  // @ts-expect-error a stream, not the name of a device
  withStream('cuda', () => 1);
  // @ts-expect-error an unknown device
  new Stream('gpu');
  // @ts-expect-error an unknown option
  new Stream('cuda', { timing: true });
  // @ts-expect-error streams wait for events and streams
  stream.wait(1);
  // @ts-expect-error the device is an option
  new Event('cuda');
  // @ts-expect-error events are recorded on streams
  event.record('cuda');
  // @ts-expect-error time goes by between two events
  event.elapsedTime();
}

export function files(): void {
  same(is<Tensor>()(openSafetensors('a', { map: false }).read('x')));
  readSafetensors(new Uint8Array(8), { map: false });
  // @ts-expect-error true or false
  openSafetensors('a', { map: 'lazy' });
  // @ts-expect-error an unknown option
  readSafetensors('a', { mmap: true });
  // @ts-expect-error an array of numbers is no file
  openSafetensors([1, 2]);
  // @ts-expect-error a tensor's name
  openSafetensors('a').read(0);
}

export function tools(torch: Torch, x: Tensor): void {
  same(is<number>()(torch.memory().liveTensors), is<string | null>()(x.gradFn));
  torch.setPrintOptions({ precision: 2 });
  // @ts-expect-error an unknown option
  torch.setPrintOptions({ digits: 2 });
  // @ts-expect-error it only tells
  x.gradFn = null;
  // @ts-expect-error it only tells
  x.layout = 'strided';
}
