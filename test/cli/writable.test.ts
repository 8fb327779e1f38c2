import assert from 'node:assert/strict';
import * as os from 'node:os';
import * as path from 'node:path';
import { InvalidArgumentError } from '../../src/torch/errors';
import { checkWritable } from '../../src/cli/writable';

describe('checkWritable', () => {
  it('names the folder, why it cannot be written, and the option that names another', () => {
    checkWritable(path.join(os.tmpdir(), 'kontrast-none'), '--out');
    assert.throws(
      () => checkWritable(path.join(__filename, 'run'), '--out'),
      (error: unknown) =>
        error instanceof InvalidArgumentError &&
        /^cannot write into '.*run' \('.*writable\.test\.ts' is not a folder\): .* with --out$/.test(error.message),
    );
  });
});
