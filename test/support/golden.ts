import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { torch, type DType, type Tensor } from '../../src/torch';
import { device } from './device';

/** A set of values that PyTorch computed. */
export interface Golden<Values> {
  /** Tensors by name, on the device of the tests. */
  tensors: Record<string, Tensor>;
  /** Whatever else the script wrote. */
  values: Values;
  /** The tensors under a prefix, by the rest of their names. */
  under(prefix: string): Map<string, Tensor>;
}

interface Stored {
  values: unknown;
  tensors: Record<string, { dtype: DType; shape: number[]; data: string }>;
}

/** Reads `test/golden/<name>.json`, which `test/golden/make_<name>.py` wrote. */
export function golden<Values = Record<string, never>>(name: string): Golden<Values> {
  const stored = JSON.parse(readFileSync(join(__dirname, '..', 'golden', `${name}.json`), 'utf8')) as Stored;
  const tensors: Record<string, Tensor> = {};
  for (const [key, { dtype, shape, data }] of Object.entries(stored.tensors)) {
    tensors[key] = torch.fromBytes(Buffer.from(data, 'base64'), shape, dtype).to({ device });
  }
  return {
    tensors,
    values: stored.values as Values,
    under: (prefix) =>
      new Map(
        Object.entries(tensors)
          .filter(([key]) => key.startsWith(prefix))
          .map(([key, tensor]) => [key.slice(prefix.length), tensor]),
      ),
  };
}
