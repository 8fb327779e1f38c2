/**
 * Makes random calls and says which before each: a line `<schema> <call> <JSON>` on the standard output. Nothing is buffered, so the
 * last line is the call that a crash belongs to.
 *
 *     child.ts <seed> <calls a schema> <first schema> <first call> [one]
 */
import { writeSync } from 'node:fs';
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
import { makeCall, triedSchemas, type Call, type Described, type TensorDescription } from './calls';

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

function valueOf(described: Described): unknown {
  if (described === null || typeof described !== 'object') return described;
  if (Array.isArray(described)) return described.map(valueOf);
  if ('bigint' in described) return BigInt(described.bigint);
  if ('number' in described) return Number(described.number);
  if ('complex' in described) return { re: described.complex[0], im: described.complex[1] };
  if ('generator' in described) return new Generator({ seed: described.generator });
  try {
    return tensorOf(described.tensor);
  } catch (error) {
    // LibTorch has no such tensor (complex and quantized, say).
    if (error instanceof KontrastError) return torch.ones([2, 2]);
    throw error;
  }
}

function run(call: Call): void {
  const [namespace, rest] = call.operator.split('::') as [string, string];
  const [name, overload] = rest.split('.') as [string, string];
  scope(() => {
    const positional = call.positional.map(valueOf);
    const keyword = Object.fromEntries(Object.entries(call.keyword).map(([key, value]) => [key, valueOf(value)]));
    try {
      const result = ops[namespace]![name]![overload]!(...positional, keyword);
      // What comes back must be sound, too.
      for (const item of [result].flat() as unknown[]) if (item instanceof Object && 'numel' in item) String(item);
    } catch (error) {
      if (!(error instanceof KontrastError)) throw error;
    }
  });
}

const [seed, calls, firstSchema, firstCall] = process.argv.slice(2, 6).map(Number) as [number, number, number, number];
const onlyOne = process.argv[6] === 'one';
process.removeAllListeners('warning');
process.on('warning', () => undefined);
setThreads(1);
const schemas = triedSchemas(operatorSchemas());
for (let i = firstSchema; i < schemas.length; i++) {
  for (let k = i === firstSchema ? firstCall : 0; k < calls; k++) {
    const call = makeCall(schemas[i]!, seed, k);
    writeSync(1, `${String(i)} ${String(k)} ${JSON.stringify(call)}\n`);
    run(call);
    if (onlyOne) process.exit(0);
  }
}
writeSync(1, 'done\n');
process.exit(0);
