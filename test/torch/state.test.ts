import assert from 'node:assert/strict';
import { torch } from '../../src/torch';
import { jsonNumber, jsonObject, joinStates, partOfState } from '../../src/torch/state';

describe('states', () => {
  it('join under names and come apart again', () => {
    const [x, y] = [torch.zeros([1]), torch.ones([1])];
    const joined = joinStates({
      a: { tensors: new Map([['x', x]]), values: { step: 3 } },
      ab: { tensors: new Map([['x', y]]), values: [1, 2] },
    });
    assert.deepEqual([...joined.tensors.keys()], ['a.x', 'ab.x']);
    assert.deepEqual(joined.values, { a: { step: 3 }, ab: [1, 2] });
    const part = partOfState(joined, 'a');
    assert.equal(part.tensors.get('x'), x);
    assert.equal(part.tensors.size, 1);
    assert.deepEqual(part.values, { step: 3 });
  });

  it('refuse what is missing or of another kind', () => {
    assert.throws(() => partOfState({ tensors: new Map(), values: {} }, 'a'), /the state has no part 'a'/);
    assert.throws(() => partOfState({ tensors: new Map(), values: [1] }, 'a'), /expected an object, found \[1\]/);
    assert.throws(() => jsonObject(null, 'options'), /options: expected an object, found null/);
    assert.throws(
      () => jsonNumber({ step: 'one' }, 'step', 'the file'),
      /the file: 'step' must be a number, found "one"/,
    );
    assert.throws(() => jsonNumber({}, 'step', 'the file'), /found nothing/);
    assert.equal(jsonNumber({ step: 2 }, 'step', 'the file'), 2);
  });
});
