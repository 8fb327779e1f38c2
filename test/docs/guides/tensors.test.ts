import assert from 'node:assert/strict';
import { runProgramsOf } from '../../support/programs';

describe('the guide to tensors', () => {
  it('has programs that run', () => {
    const [data, indexing, memory, functions, async_, threads, files] = runProgramsOf('docs/guides/tensors.md');
    assert.match(data!, /^Float32Array\(4\) \[ 1, 2, 3, 4 \]\n\[ \[ 1, 2 \], \[ 3, 4 \] \] 10\n/);
    assert.equal(indexing!.replace(/\s+/g, ' '), '[ 2, 4 ] [ 2, 3 ] [ 1, 3, 4 ] [ 13 ] [ 2, 3 ]');
    assert.match(memory!, /^1 \d+\n/);
    assert.match(memory!, /shape: \[ 1000 \],\s+bytes: 4000,\s+madeAt: \[/);
    assert.match(functions!, /^tensor\(\[ ?1?[0-9.]+, /);
    assert.equal(async_, '[ 500, 500 ]');
    assert.equal(threads, 'tensor([1., 1., 1.])');
    assert.match(files!, /layer\.weight.*\n?.*tensor\(\[\[1\., 1\.\],[^]*function$/);
  }).timeout(120_000);
});
