import assert from 'node:assert/strict';
import { firstDifference } from '../../bench/harness/compare';

const exact = { relative: 0, absolute: 0 };

describe('bench result comparison', () => {
  it('finds equal results equal', () => {
    const result = { losses: [1, 2.5], label: 'a', ok: true };
    assert.equal(firstDifference(result, structuredClone(result), exact), undefined);
  });

  it('allows numbers to differ by the tolerance, and no more', () => {
    const tolerance = { relative: 0.01, absolute: 0.1 };
    assert.equal(firstDifference(100, 101.0, tolerance), undefined);
    assert.equal(firstDifference(-100, -98.91, tolerance), undefined);
    assert.match(firstDifference(100, 101.2, tolerance) ?? '', /^result: 101.2, expected 100 ± 1.10$/);
    assert.equal(firstDifference(0, 0.1, tolerance), undefined);
  });

  it('names the place of the first difference', () => {
    assert.match(firstDifference({ a: [1, [2, 3]] }, { a: [1, [2, 4]] }, exact) ?? '', /^result\.a\[1\]\[1\]: 4/);
  });

  it('tells missing and additional values', () => {
    assert.match(firstDifference([1, 2], [1], exact) ?? '', /1 values, expected 2/);
    assert.match(firstDifference({ a: 1 }, { a: 1, b: 2 }, exact) ?? '', /result\.b: the reference reports no/);
    assert.match(firstDifference({ a: 1, b: 2 }, { a: 1 }, exact) ?? '', /result\.b: the implementation reports no/);
  });

  it('never takes values that are not finite as agreeing', () => {
    // JSON carries NaN and Infinity as null.
    assert.match(firstDifference([null], [null], exact) ?? '', /no finite value/);
    assert.ok(firstDifference(Number.NaN, Number.NaN, { relative: 1, absolute: 1 }));
  });

  it('tells values of different kinds apart', () => {
    assert.ok(firstDifference(1, '1', exact));
    assert.ok(firstDifference([1], { 0: 1 }, exact));
    assert.ok(firstDifference(true, false, exact));
  });
});
