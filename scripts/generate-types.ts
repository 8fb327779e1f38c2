/**
 * Writes `src/torch/*.generated.ts`: the types of LibTorch's operators, and the lists of their names; and `docs/operators.md`.
 *
 *     npx ts-node --transpile-only scripts/generate-types.ts
 *
 * The schemas come from the LibTorch that the addon has found. With `--schemas <file> --libtorch <version>` they come from
 * a file with one schema a line instead, so that the types can be made where the addon is not built.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { writeFileAtomic } from '../src/torch/files';
import { generate } from './types/emit';
import { operatorsPage } from './types/operators-page';

interface Source {
  schemas: string[];
  version: string;
}

function fromAddon(): Source {
  // Importing it loads the addon, which need not be built where the schemas come from a file.
  // eslint-disable-next-line @typescript-eslint/no-require-imports
  const { native, libtorch } = require('../src/torch/native') as typeof import('../src/torch/native');
  // Our own operators are registered beside LibTorch's.
  const schemas = native.schemas().filter((schema) => !schema.startsWith('kontrast::'));
  return { schemas, version: libtorch.version };
}

function fromFile(path: string, version: string): Source {
  return { schemas: readFileSync(path, 'utf8').split('\n').filter(Boolean), version };
}

function main(): void {
  const { values } = parseArgs({ options: { schemas: { type: 'string' }, libtorch: { type: 'string' } } });
  const { schemas: path, libtorch } = values;
  if ((path === undefined) !== (libtorch === undefined)) {
    throw new Error('--schemas and --libtorch belong together: a file of schemas does not say which version it is of');
  }
  const source = path !== undefined && libtorch !== undefined ? fromFile(path, libtorch) : fromAddon();
  const folder = join(__dirname, '../src/torch');
  const files = generate(source.schemas, source.version);
  for (const [name, text] of Object.entries(files)) writeFileAtomic(join(folder, name), text);
  writeFileAtomic(join(__dirname, '../docs/operators.md'), operatorsPage(source.schemas, source.version, files));
}

main();
