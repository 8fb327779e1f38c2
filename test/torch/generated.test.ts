import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { generate } from '../../scripts/types/emit';
import { operatorsPage } from '../../scripts/types/operators-page';
import { pinnedVersion } from '../../src/libtorch/version';
import { torch } from '../../src/torch';
import { camelCase, unpackNames } from '../../src/torch/names';
import { functionNames, handWrittenMembers, methodNames } from '../../src/torch/names.generated';
import { libtorch, native } from '../../src/torch/native';

describe('generated types', () => {
  it('are what the script makes of the linked LibTorch, byte for byte', function () {
    // Another release has other operators; the committed types are those of the pinned one.
    if (libtorch.version !== pinnedVersion) return this.skip();
    // Our own operators are registered beside LibTorch's.
    const schemas = native.schemas().filter((schema) => !schema.startsWith('kontrast::'));
    const files = generate(schemas, pinnedVersion);
    for (const [name, text] of Object.entries(files)) {
      const committed = readFileSync(join(__dirname, '../../src/torch', name), 'utf8');
      assert.ok(committed === text, `${name} is stale: run scripts/generate-types.ts`);
    }
    const page = readFileSync(join(__dirname, '../../docs/operators.md'), 'utf8');
    assert.ok(page === operatorsPage(schemas, pinnedVersion, files), 'docs/operators.md is stale');
  });

  it('name what is there: every method, every function, and what is written by hand', () => {
    const tensor = torch.zeros([1]);
    const absent = [...unpackNames(methodNames).map(camelCase), ...handWrittenMembers].filter(
      (name) => !(name in tensor),
    );
    assert.deepEqual(absent, []);
    assert.deepEqual(
      unpackNames(functionNames).filter((name) => !(camelCase(name) in torch)),
      [],
    );
    tensor.dispose();
  });

  it('name operators that the linked LibTorch has', () => {
    const names = new Set([...unpackNames(methodNames), ...unpackNames(functionNames)]);
    assert.deepEqual(
      [...names].filter((name) => !native.hasOperator(`aten::${name}`)),
      [],
    );
  });
});
