import { mkdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { writeFileAtomic } from '../torch/files';
import type { LibTorchSource } from './locate';

/** What is kept beside the compiled addon: which LibTorch it was built for and where that was. */
export interface BuildRecord {
  /** The release that the addon was built for; it works with every release of the same minor version. */
  libtorchVersion: string;
  /** The folder that it was built with. */
  libtorchRoot: string;
  /** The place where that folder was found. */
  libtorchSource: LibTorchSource;
  /** Hash of the native sources and of what else the build depends on; the build is skipped while it stays the same. */
  sourcesHash: string;
}

/** The folder of kontrast's `package.json`: two levels up from `src/libtorch` and from `dist/libtorch`. */
export const ownPackageRoot: string = resolve(__dirname, '..', '..');

/** The file of the record; `packageRoot` is the folder of kontrast's `package.json`. */
export function buildRecordPath(packageRoot: string): string {
  return join(packageRoot, 'build', 'Release', 'kontrast.json');
}

/** Reads the record; `null` when there is none or it can't be read, since the places are searched anew then. */
export function readBuildRecord(packageRoot: string): BuildRecord | null {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(buildRecordPath(packageRoot), 'utf8'));
  } catch {
    return null;
  }
  const record = value as Partial<BuildRecord> | null;
  const complete = [record?.libtorchVersion, record?.libtorchRoot, record?.libtorchSource, record?.sourcesHash].every(
    (field) => typeof field === 'string',
  );
  return complete ? (record as BuildRecord) : null;
}

/** Writes the record; the file is complete or untouched at every moment. */
export function writeBuildRecord(packageRoot: string, record: BuildRecord): void {
  const path = buildRecordPath(packageRoot);
  mkdirSync(dirname(path), { recursive: true });
  writeFileAtomic(path, `${JSON.stringify(record, null, 2)}\n`);
}
