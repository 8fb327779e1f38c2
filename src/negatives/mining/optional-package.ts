/** Packages that are asked for only when something needs them. */
import { createRequire } from 'node:module';
import { KontrastError } from '../../torch';

const load = createRequire(__filename);

/**
 * An optional package's exports.
 *
 * @param range the version that is asked for
 * @param what what needs it, for the message
 * @throws KontrastError code `MISSING_PACKAGE` with the command that installs it, if it is not installed or does not load
 */
export function optionalPackage(name: string, range: string, what: string): unknown {
  try {
    return load(name);
  } catch (cause) {
    throw new KontrastError(
      `${what} needs the package '${name}', which could not be loaded (${firstLine(cause)}): npm install ${name}@${range}`,
      { code: 'MISSING_PACKAGE', cause },
    );
  }
}

/** Where an optional package is, for another thread to load it. */
export function optionalPackagePath(name: string): string {
  return load.resolve(name);
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0]!;
}
