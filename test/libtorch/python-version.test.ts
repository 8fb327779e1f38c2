import assert from 'node:assert/strict';
import {
  comparePythonVersions,
  isPrerelease,
  parsePythonVersion,
  parseSpecifiers,
  satisfies,
} from '../../src/libtorch/python-version';

describe('versions of Python packages', () => {
  it('stand in their order', () => {
    // Each line is older than the next.
    const ordered = [
      '1.0.dev1',
      '1.0a1.dev2',
      '1.0a1',
      '1.0a2',
      '1.0b1',
      '1.0rc1',
      '1.0',
      '1.0+cpu',
      '1.0+cu130',
      '1.0.post1.dev3',
      '1.0.post1',
      '1.0.1',
      '1.9',
      '1.10',
      '13.1.1.3',
      '1!0.1',
    ].map((text) => parsePythonVersion(text)!);
    for (let i = 0; i < ordered.length; i++) {
      for (let j = 0; j < ordered.length; j++) {
        assert.equal(Math.sign(comparePythonVersions(ordered[i]!, ordered[j]!)), Math.sign(i - j), `${i} ${j}`);
      }
    }
  });

  it('are the same however they are spelled', () => {
    for (const [a, b] of [
      ['13.0.3', '13.0.3.0'],
      ['1.0-1', '1.0.post1'],
      ['1.0.r', '1.0.post0'],
      ['v1.0ALPHA', '1.0a0'],
      ['1.0-preview_2', '1.0rc2'],
      ['1.0+a-b', '1.0+A.b'],
    ]) {
      assert.equal(comparePythonVersions(parsePythonVersion(a!)!, parsePythonVersion(b!)!), 0, `${a} ${b}`);
    }
  });

  it('are told from other texts, and releases from what leads to them', () => {
    for (const text of ['', 'linux', '1.', '1.0.x', '1.0+', '>=1']) assert.equal(parsePythonVersion(text), null, text);
    for (const text of ['1.0a1', '1.0.dev0', '13.4.0rc1']) assert.ok(isPrerelease(parsePythonVersion(text)!), text);
    for (const text of ['1.0', '0.8.1.post1', '2.13.0+cu130'])
      assert.ok(!isPrerelease(parsePythonVersion(text)!), text);
  });
});

describe('conditions on versions', () => {
  const meets = (version: string, conditions: string) =>
    parseSpecifiers(conditions)!.every((specifier) => satisfies(version, specifier));

  it('hold where they should', () => {
    for (const [version, conditions] of [
      ['13.0.3.0', '==13.0.3'],
      ['2.13.0+cpu', '==2.13.0'],
      ['2.13.0+cpu', '==2.13.0+cpu'],
      ['13.1.1.3', '==13.1.1.3.*'],
      ['13.5.37', '<14,>=13.0.88'],
      ['0.8.1.post1', '>0.8.0'],
      ['1.5', '~=1.4'],
      ['1.4.9', '~=1.4.2'],
      ['1.0', '!=1.1, != 2.*'],
      ['1.0rc1', '<1.0rc2'],
      ['1.0', '===1.0'],
      ['1.0', ''],
    ]) {
      assert.ok(meets(version!, conditions!), `${version} ${conditions}`);
    }
  });

  it('do not hold where they should not', () => {
    for (const [version, conditions] of [
      ['0.8.1.post1', '==0.8.1'],
      ['2.13.0+cpu', '==2.13.0+cu130'],
      ['2.13.0', '==2.13.0+cpu'],
      ['13.1.10.3', '==13.1.1.*'],
      ['14.0', '<14,>=13.0.88'],
      ['14.0rc1', '<14'],
      ['0.8.0.post1', '>0.8.0'],
      ['2.0', '~=1.4'],
      ['1.5.0', '~=1.4.2'],
      ['2.1', '!=2.*'],
      ['1.0.0', '===1.0'],
      ['nonsense', '==1.0'],
      ['1.0', '==nonsense'],
    ]) {
      assert.ok(!meets(version!, conditions!), `${version} ${conditions}`);
    }
    assert.equal(parseSpecifiers('=1.0'), null);
    assert.equal(parseSpecifiers('>=1.0 <2'), null);
  });
});
