import { KontrastError } from '../torch/errors';
import { pinnedVersion } from './version';

/** One place that was looked at, and why what was there (if anything) can't be used. */
export interface RefusedPlace {
  /** The place in words: `LIBTORCH`, `npm package …`, `Python's torch`, `cache folder`. */
  place: string;
  /** Where exactly, when the place has a path. */
  path?: string;
  /** Why it was refused. */
  reason: string;
  /** The version that was there, when it is the version that was refused. */
  version?: string;
}

/**
 * No usable LibTorch. `code` is `LIBTORCH_VERSION` when one was there in a version that can't be used, else
 * `LIBTORCH_NOT_FOUND`. The message lists every place that was tried with the reason, and how to fix it.
 */
export class LibTorchNotFoundError extends KontrastError {
  /** Every place that was tried, in order. */
  readonly tried: readonly RefusedPlace[];

  constructor(tried: readonly RefusedPlace[], builtFor?: string) {
    const wrongVersion = tried.some((place) => place.version !== undefined);
    super(describe(tried, wrongVersion, builtFor), { code: wrongVersion ? 'LIBTORCH_VERSION' : 'LIBTORCH_NOT_FOUND' });
    this.tried = tried;
  }
}

function describe(tried: readonly RefusedPlace[], wrongVersion: boolean, builtFor: string | undefined): string {
  const wanted = builtFor === undefined || pinnedVersion.startsWith(`${builtFor}.`) ? pinnedVersion : `${builtFor}.0`;
  const ways = [
    ['npx kontrast setup', `fetches LibTorch ${wanted} into kontrast's own cache folder`],
    [`pip install torch==${wanted}`, 'for the python3 that is first on the PATH'],
    [
      'LIBTORCH=<folder>',
      'an unpacked LibTorch or an installed torch package: the folder that holds lib/ and include/',
    ],
  ];
  if (wrongVersion && builtFor !== undefined) {
    ways.push(['npm run build:native', `in a clone: builds the addon again, for the LibTorch that is there`]);
  }
  // While LIBTORCH is set, no other place counts.
  const isForced = tried.some(({ place, path }) => place === 'LIBTORCH' && path !== undefined);
  const width = Math.max(...ways.map(([command]) => command.length));
  return [
    wrongVersion ? `No LibTorch of a version that fits was found (needed: ${wanted}).` : 'LibTorch was not found.',
    'Tried, in this order:',
    ...tried.map(
      ({ place, path, reason }, i) => `  ${i + 1}. ${place}${path === undefined ? '' : ` (${path})`}: ${reason}`,
    ),
    isForced
      ? 'Correct LIBTORCH, or unset it and use one of the others:'
      : `Any of these ${ways.length === 3 ? 'three' : 'four'} fixes it:`,
    ...ways.map(([command, effect]) => `  - ${command.padEnd(width)}  ${effect}`),
  ].join('\n');
}

/**
 * Fetching LibTorch failed; nothing half-done was left but what the next try goes on with. `code` is `LIBTORCH_DOWNLOAD`,
 * `LIBTORCH_DAMAGED`, `LIBTORCH_SPACE` (the disk is too full), `LIBTORCH_CUDA` (no build with CUDA suits the machine),
 * `LIBTORCH_DECLINED` or `LIBTORCH_LOCKED`.
 */
export class LibTorchSetupError extends KontrastError {}
