import * as fs from 'node:fs';
import * as path from 'node:path';
import { DataError } from './errors';

/**
 * The folder of an installed npm package that holds a data set.
 *
 * Walks up from each of `from` through the `node_modules` folders, as Node resolves a bare name. The walk is done here, and not
 * by `require.resolve`, because that consults `NODE_PATH` and caches what it did not find, so a package installed while the
 * process runs would stay missing.
 *
 * @param from where to start; by default the working directory, then the folder of this file
 * @throws DataError `DATA_PACKAGE_MISSING`, naming the package and how to install it
 */
export function packageDirectory(name: string, from: readonly string[] = [process.cwd(), __dirname]): string {
  for (const start of from) {
    let folder = path.resolve(start);
    for (;;) {
      const candidate = path.join(folder, 'node_modules', name);
      if (fs.existsSync(path.join(candidate, 'package.json'))) return candidate;
      const parent = path.dirname(folder);
      if (parent === folder) break;
      folder = parent;
    }
  }
  throw new DataError(
    `The npm package "${name}", which holds this data set, is not installed (looked in the node_modules folders above ` +
      `${from.join(' and ')}). Install it: npm install ${name}`,
    'DATA_PACKAGE_MISSING',
  );
}
