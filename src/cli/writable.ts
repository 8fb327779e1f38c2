import * as path from 'node:path';
import { InvalidArgumentError } from '../torch/errors';
import { unwritableReason } from '../data/writable-folder';

/**
 * Refuses a folder that cannot be written, before any work whose result would go there. The folder need not be there yet.
 *
 * @param folder Where the results go.
 * @param option The option that names another place.
 * @throws {InvalidArgumentError} naming folder, reason and option.
 */
export function checkWritable(folder: string, option: string): void {
  const reason = unwritableReason(folder);
  if (reason === null) return;
  throw new InvalidArgumentError(
    `cannot write into '${path.resolve(folder)}' (${reason}): make it writable, or choose another place with ${option}`,
  );
}
