/**
 * Reading and writing tensors as safetensors files: a plain header and raw bytes, so that a file can be checked
 * completely before any of it is used, and never runs code.
 *
 * Format: https://github.com/huggingface/safetensors (README, "Format").
 */
import * as fs from 'node:fs';
import { writeFileAtomic, writeFully } from './files';
import { openFile, planSafetensors, readBytes, readLayout } from './safetensors-layout';
import { torch } from './functions';
import type { Tensor } from './tensor';

/**
 * Writes tensors to a safetensors file, atomically: a reader, or a crash, never sees a part of it.
 *
 * @param path The file; an existing one is replaced.
 * @param tensors By name; any shape, device and layout, any dtype but complex128.
 * @param metadata Text kept beside the tensors.
 * @throws {KontrastError} code `SAFETENSORS` for a dtype that the format lacks, before anything is written.
 */
export function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor> | Readonly<Record<string, Tensor>>,
  metadata: Readonly<Record<string, string>> = {},
): void {
  const byName = tensors instanceof Map ? (tensors as ReadonlyMap<string, Tensor>) : new Map(Object.entries(tensors));
  const { header, layout } = planSafetensors(
    [...byName].map(([name, tensor]) => ({ name, dtype: tensor.dtype, shape: tensor.shape })),
    metadata,
  );
  writeFileAtomic(path, (file) => {
    writeFully(file, header);
    for (const { name } of layout.tensors) writeFully(file, byName.get(name)!.bytesSync());
  });
}

/**
 * Reads all tensors of a safetensors file, on the CPU. The whole header is checked before the first tensor is made.
 *
 * @param path The file.
 * @returns The tensors by name and the file's metadata; both objects have no prototype, so any name is safe.
 * @throws {KontrastError} code `SAFETENSORS`: names the file and what is wrong with it (cut off, overlapping or missing
 *   bytes, unknown dtype, bad header).
 */
export function readSafetensors(path: string): {
  tensors: Record<string, Tensor>;
  metadata: Readonly<Record<string, string>>;
} {
  const file = openFile(path);
  try {
    const layout = readLayout(path, file);
    const tensors = Object.create(null) as Record<string, Tensor>;
    for (const { name, offset, byteLength, shape, dtype } of layout.tensors) {
      tensors[name] = torch.fromBytes(readBytes(file, offset, byteLength), shape, dtype);
    }
    return { tensors, metadata: layout.metadata };
  } finally {
    fs.closeSync(file);
  }
}
