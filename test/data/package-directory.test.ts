import * as assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { DataError } from '../../src/data/errors';
import { packageDirectory } from '../../src/data/package-directory';

describe('packageDirectory', () => {
  let folder: string;
  beforeEach(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kontrast-package-'));
  });
  afterEach(() => {
    fs.rmSync(folder, { recursive: true });
  });

  const install = (...below: string[]) => {
    const target = path.join(folder, ...below, 'node_modules', 'some-data');
    fs.mkdirSync(target, { recursive: true });
    fs.writeFileSync(path.join(target, 'package.json'), '{}');
    return target;
  };

  it('finds a package above where it starts, the nearest first', () => {
    const outer = install();
    fs.mkdirSync(path.join(folder, 'a', 'b'), { recursive: true });
    assert.equal(packageDirectory('some-data', [path.join(folder, 'a', 'b')]), outer);
    const inner = install('a');
    assert.equal(packageDirectory('some-data', [path.join(folder, 'a', 'b')]), inner);
  });

  it('tries the starts in order', () => {
    const second = install('second');
    assert.equal(packageDirectory('some-data', [path.join(folder, 'first'), path.join(folder, 'second')]), second);
  });

  it('does not take a folder without package.json for a package', () => {
    fs.mkdirSync(path.join(folder, 'node_modules', 'some-data'), { recursive: true });
    assert.throws(() => packageDirectory('some-data', [folder]), DataError);
  });

  it('names the package and how to install it when it is missing', () => {
    assert.throws(
      () => packageDirectory('some-data', [folder]),
      (error) =>
        error instanceof DataError &&
        error.code === 'DATA_PACKAGE_MISSING' &&
        error.message.includes('"some-data"') &&
        error.message.includes(folder) &&
        error.message.includes('npm install some-data'),
    );
  });
});
