import { InvalidArgumentError } from '../torch/errors';

/** The LibTorch release that kontrast is developed, measured and released with. */
export const pinnedVersion = '2.13.0';

/** The oldest and the newest LibTorch minor release that the addon's sources compile against. */
export const supportedMinors = { oldest: '2.11', newest: '2.14' } as const;

/** A LibTorch version, split the way it is compared. */
export interface Version {
  /** Release alone: `2.13.0`. */
  release: string;
  /** Minor release: `2.13`. One compiled addon fits one minor release. */
  minor: string;
  /** What stands after `+`: `cpu`, `cu130`, …; empty when nothing does. */
  local: string;
}

/**
 * Splits a version as PyTorch writes it (`2.13.0`, `2.13.0+cu130`, `2.14.0a0+git1234567`).
 *
 * @throws InvalidArgumentError when the text does not begin with three numbers
 */
export function parseVersion(text: string): Version {
  const match = /^(\d+)\.(\d+)\.(\d+)[^+\s]*(?:\+(\S+))?\s*$/.exec(text);
  if (!match)
    throw new InvalidArgumentError(`'${text}' is not a LibTorch version; expected one such as ${pinnedVersion}`);
  const [, major, minor, patch, local = ''] = match;
  return { release: `${major}.${minor}.${patch}`, minor: `${major}.${minor}`, local };
}

/** Negative, zero or positive as `a` is older than, the same as or newer than `b`; both are dotted numbers. */
export function compareReleases(a: string, b: string): number {
  const left = a.split('.').map(Number);
  const right = b.split('.').map(Number);
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/**
 * Why a version can't be used, or `null` when it can.
 *
 * @param builtFor minor release that the compiled addon was built for; without it any minor release that the sources compile against will do
 */
export function refuseVersion(version: Version, builtFor?: string): string | null {
  if (builtFor !== undefined) {
    return version.minor === builtFor ? null : `version ${version.release}, but the addon was built for ${builtFor}`;
  }
  if (compareReleases(version.minor, supportedMinors.oldest) < 0) {
    return `version ${version.release} is older than ${supportedMinors.oldest}`;
  }
  if (compareReleases(version.minor, supportedMinors.newest) > 0) {
    return `version ${version.release} is newer than ${supportedMinors.newest}`;
  }
  return null;
}
