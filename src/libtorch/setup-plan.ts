/** What a set-up would download, how much of it is here, and what it needs on the disk. */
import { existsSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { formatBytes } from './bytes';
import { isNeeded, isNvidiaLibrary } from './contents';
import { LibTorchSetupError } from './errors';
import { publicAddress } from './http';
import type { Resolution } from './resolve-wheels';
import { bytesHere } from './resumable-download';
import type { WheelReader } from './wheel-reader';

/** One wheel of a plan. */
export interface PlannedWheel {
  fileName: string;
  /** Where it comes from, without a password; `file:` for one that is on this machine and is read where it is. */
  url: string;
  /** Bytes; null where the index does not tell. */
  size: number | null;
  sha256: string | null;
  /** Bytes that are here already. */
  here: number;
}

/** What a set-up would do. */
export interface SetupPlan {
  /** The release of LibTorch, such as `2.13.0`. */
  version: string;
  /** `cpu`, `cu130`, … */
  variant: string;
  wheels: readonly PlannedWheel[];
  /** False when more wheels turn out to be needed once the first are here. */
  isComplete: boolean;
  /** Bytes still to be downloaded, as far as sizes are known. */
  downloadBytes: number;
  /**
   * Bytes that LibTorch takes when it is unpacked; an estimate where a server does not show what is in a wheel, and 0 where wheels are
   * only gathered.
   */
  installedBytes: number;
  /** Free bytes on the disk of the folder. */
  freeBytes: number;
  /** The folder that will appear. */
  folder: string;
}

/** Puts a plan together. */
export async function makePlan(
  version: string,
  resolution: Resolution,
  { reader, downloads, folder }: { reader: WheelReader; downloads: string; folder: string },
): Promise<SetupPlan> {
  const wheels: PlannedWheel[] = [];
  let installedBytes = 0;
  for (const wheel of resolution.wheels) {
    const { fileName, url, sha256 } = wheel;
    const size = await reader.sizeOf(wheel);
    wheels.push({
      fileName,
      url: publicAddress(url),
      size,
      sha256,
      here: isLocal(wheel) ? (size ?? 0) : bytesHere(downloads, wheel),
    });
    const includes = wheel === resolution.torch ? isNeeded : isNvidiaLibrary;
    const files = await reader.filesOf(wheel);
    installedBytes += files
      ? files.filter(({ path }) => includes(path)).reduce((sum, file) => sum + file.size, 0)
      : 2 * (size ?? 0);
  }
  return {
    version,
    variant: resolution.variant,
    wheels,
    isComplete: resolution.isComplete,
    downloadBytes: wheels.reduce((sum, { size, here }) => sum + Math.max(0, (size ?? 0) - here), 0),
    installedBytes,
    freeBytes: freeBytesAt(folder),
    folder,
  };
}

/** Whether a wheel is a file on this machine, to be read where it is. */
export function isLocal({ url }: { url: string }): boolean {
  return url.startsWith('file:');
}

/** Free bytes on the disk that a folder is on, or would be on. */
export function freeBytesAt(folder: string): number {
  let existing = folder;
  while (!existsSync(existing) && dirname(existing) !== existing) existing = dirname(existing);
  const { bavail, bsize } = statfsSync(existing);
  return bavail * bsize;
}

/**
 * Refuses a plan that does not fit on the disk.
 *
 * @throws LibTorchSetupError (`LIBTORCH_SPACE`)
 */
export function checkSpace(plan: SetupPlan): void {
  const needed = plan.downloadBytes + plan.installedBytes;
  if (needed <= plan.freeBytes) return;
  throw new LibTorchSetupError(
    `LibTorch ${plan.version} (${plan.variant}) needs ${formatBytes(needed)} on the disk with ${dirname(plan.folder)} while it is set up ` +
      `(${formatBytes(plan.downloadBytes)} to download, ${formatBytes(plan.installedBytes)} unpacked), and ` +
      `${formatBytes(plan.freeBytes)} are free. Free some space, or name a folder on another disk: KONTRAST_CACHE=<folder>.`,
    { code: 'LIBTORCH_SPACE' },
  );
}

/** The plan as lines of text. */
export function describePlan(plan: SetupPlan): string[] {
  const width = Math.max(...plan.wheels.map(({ fileName }) => fileName.length));
  const lines = plan.wheels.map((wheel) => {
    const size = wheel.size === null ? 'size not known' : formatBytes(wheel.size);
    let note = '';
    if (isLocal(wheel)) note = `  in ${dirname(fileURLToPath(wheel.url))}`;
    else if (wheel.here > 0)
      note = `  ${wheel.here === wheel.size ? 'all' : formatBytes(wheel.here)} of it here already`;
    return `  ${wheel.fileName.padEnd(width)}  ${size.padStart(8)}${note}`;
  });
  const hosts = [...new Set(plan.wheels.filter((wheel) => !isLocal(wheel)).map(({ url }) => new URL(url).host))];
  return [
    `LibTorch ${plan.version} (${plan.variant}) is made of:`,
    ...lines,
    ...(plan.isComplete ? [] : ['  … and what these require, which their server shows only with the whole files']),
    `to download   ${formatBytes(plan.downloadBytes)}${hosts.length === 0 ? '' : ` from ${hosts.join(', ')}`}`,
    plan.installedBytes > 0
      ? `on the disk   ${formatBytes(plan.installedBytes)} in ${plan.folder}`
      : `goes to       ${plan.folder}`,
    `free there    ${formatBytes(plan.freeBytes)}`,
  ];
}
