/**
 * Makes calls and says which before each: a line `<schema> <call> <JSON>` on the standard output. Nothing is buffered, so the last
 * line is the call that a crash belongs to. It says `ready` when it has started and waits for its task, a line of JSON on the
 * standard input: so a process that takes over after a crash has started before.
 */
import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import {
  Generator,
  KontrastError,
  operatorSchemas,
  ops,
  scope,
  setThreads,
  torch,
  type DType,
  type Tensor,
} from '../../src';
import { native } from '../../src/torch/native';
import { TorchObject } from '../../src/torch/object-handle';
import { makeCall, triedSchemas, type Call, type Described, type ObjectName, type TensorDescription } from './calls';

/** What a process is to do: random calls from a place on, or one given call. */
export type Task = { seed: number; calls: number; only: string; schema: number; call: number } | { made: Call };

function fillOf({ shape, dtype, fill }: TensorDescription): Tensor {
  const count = shape.reduce((a, b) => a * b, 1);
  const isFloat = /^(float|bfloat|complex)/.test(dtype);
  const extremes = isFloat ? [NaN, Infinity, -Infinity, 1e38, -1e-40] : [0, -1, 127, -128, 1];
  const numbers = Array.from({ length: count }, (_, i) => {
    if (fill === 'counting') return i;
    if (fill === 'zero') return 0;
    if (fill === 'huge') return isFloat ? 1e30 : 100;
    if (fill === 'hostile') return extremes[i % extremes.length]!;
    return ((i * 7919) % 13) / 4 - 1.5;
  });
  return torch
    .tensor(numbers, { dtype: 'float64' })
    .reshape(shape)
    .to(dtype as DType);
}

function tensorOf(description: TensorDescription): Tensor {
  const plain = fillOf(description);
  switch (description.form) {
    case 'plain':
      return plain;
    case 'transposed':
      return plain.ndim >= 2 ? plain.transpose(0, -1) : plain;
    case 'expanded':
      return plain.unsqueeze(0).expand([3, ...plain.shape]);
    case 'sparse':
      return plain.toSparse();
    case 'csr':
      return plain.ndim === 2 ? plain.toSparseCsr() : plain;
    case 'quantized':
      return torch.quantizePerTensor(plain.to('float32'), 0.1, 0, 'quint8');
    case 'meta':
      return plain.to('meta');
    case 'gradient':
      return plain.isFloatingPoint() ? plain.detach().clone().requiresGrad_() : plain;
    case 'channelsLast':
      return plain.ndim === 4 ? plain.contiguous({ memoryFormat: 'channels_last' }) : plain;
    case 'sliced':
      return plain.ndim >= 1 && plain.sizeOf(0) > 1 ? plain.slice(0, 1, null, 2) : plain;
  }
}

type AnyFunction = (...args: unknown[]) => unknown;

const objects: Record<ObjectName, () => unknown> = {
  linear: () => quantized('linear_prepack', [quantizedOnes([4, 3]), null]),
  conv2d: () => quantized('conv2d_prepack', [quantizedOnes([2, 3, 1, 1]), null, [1, 1], [0, 0], [1, 1], 1]),
  conv3d: () => quantized('conv3d_prepack', [quantizedOnes([2, 3, 1, 1, 1]), null, [1, 1, 1], [0, 0, 0], [1, 1, 1], 1]),
  embedding: () =>
    quantized('embedding_bag_prepack', [
      torch.quantizePerChannel(torch.ones([4, 8]), torch.ones([4]), torch.zeros([4]), 0, 'quint8'),
    ]),
  cell: () =>
    quantized('make_quantized_cell_params_dynamic', [
      quantized('linear_prepack', [quantizedOnes([4, 3]), null]),
      quantized('linear_prepack', [quantizedOnes([4, 1]), null]),
      torch.zeros([4]),
      torch.zeros([4]),
      false,
    ]),
  sparseLinear: () => (ops.sparse as Operators).qlinear_prepack!(quantizedOnes([4, 4]), null, 1, 4),
  preparedConv: () =>
    (ops.mkldnn_prepacked as Operators).conv2d_prepack!(
      torch.ones([2, 3, 1, 1]),
      null,
      [1, 1],
      [0, 0],
      [1, 1],
      1,
      [1, 3, 4, 4],
      'none',
    ),
  storage: () => new TorchObject(native.storageOf(torch.ones([4]).handle)),
};

type Operators = Record<string, AnyFunction | undefined>;

function quantized(name: string, args: unknown[]): unknown {
  return (ops.quantized as Operators)[name]!(...args);
}

function quantizedOnes(shape: number[]): Tensor {
  return torch.quantizePerTensor(torch.ones(shape), 0.1, 0, 'qint8');
}

function valueOf(described: Described): unknown {
  if (described === null || typeof described !== 'object') return described;
  if (Array.isArray(described)) return described.map(valueOf);
  if ('bigint' in described) return BigInt(described.bigint);
  if ('number' in described) return Number(described.number);
  if ('complex' in described) return { re: described.complex[0], im: described.complex[1] };
  if ('generator' in described) return new Generator({ seed: described.generator });
  if ('letters' in described) return 'a'.repeat(described.letters);
  try {
    return 'object' in described ? objects[described.object]() : tensorOf(described.tensor);
  } catch (error) {
    // LibTorch has no such tensor (complex and quantized, say).
    if (error instanceof KontrastError) return torch.ones([2, 2]);
    throw error;
  }
}

/** Makes a call; gives the error that refused it, or an empty text. */
function run(call: Call): string {
  const [namespace, rest] = call.operator.split('::') as [string, string];
  const [name, overload] = rest.split('.') as [string, string];
  return scope(() => {
    const positional = call.positional.map(valueOf);
    const keyword = Object.fromEntries(Object.entries(call.keyword).map(([key, value]) => [key, valueOf(value)]));
    try {
      const result = ops[namespace]![name]![overload]!(...positional, keyword);
      // What comes back must be sound, too.
      for (const item of [result].flat() as unknown[]) if (item instanceof Object && 'numel' in item) String(item);
      return '';
    } catch (error) {
      if (!(error instanceof KontrastError)) throw error;
      return `${error.name} ${error.code} ${error.message.split('\n')[0]!}`;
    }
  });
}

process.removeAllListeners('warning');
process.on('warning', () => undefined);
setThreads(1);

function work(task: Task): void {
  if ('made' in task) {
    writeSync(1, `0 0 ${JSON.stringify(task.made)}\n`);
    writeSync(1, `result ${run(task.made)}\n`);
    return;
  }
  const schemas = triedSchemas(operatorSchemas(), task.only);
  for (let i = task.schema; i < schemas.length; i++) {
    for (let k = i === task.schema ? task.call : 0; k < task.calls; k++) {
      const call = makeCall(schemas[i]!, task.seed, k);
      writeSync(1, `${String(i)} ${String(k)} ${JSON.stringify(call)}\n`);
      run(call);
    }
  }
}

writeSync(1, 'ready\n');
createInterface({ input: process.stdin }).once('line', (line) => {
  work(JSON.parse(line) as Task);
  process.exit(0);
});
