import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { manifestName } from '../../src/libtorch/cache';
import { removeChoice, writeChoice } from '../../src/libtorch/choice';
import { LibTorchNotFoundError } from '../../src/libtorch/errors';
import { essentialLibraries } from '../../src/libtorch/folder';
import { locateLibTorch, platformPackage, searchLibTorch, type LocateOptions } from '../../src/libtorch/locate';
import { writeBuildRecord } from '../../src/libtorch/record';
import { isolatedEnvironment, temporaryFolder, writeFiles, writeTorch } from './fakes';

/** Puts a finished LibTorch in the cache folder. */
function writeCache(cache: string, version: string, variant = 'cpu'): string {
  const folder = join(cache, `libtorch-${version}-${variant}`);
  writeTorch(join(folder, 'torch'), `${version}+${variant}`);
  const libraries = Object.fromEntries(
    essentialLibraries.map((name) => [name, name.replace(/^lib|\..*$/g, '').length]),
  );
  writeFiles(folder, { [manifestName]: JSON.stringify({ format: 1, version, variant, libraries }) });
  return join(folder, 'torch');
}

function writePackage(packageRoot: string, version: string): string {
  const folder = join(packageRoot, 'node_modules', ...platformPackage.split('/'));
  writeFiles(folder, { 'package.json': JSON.stringify({ name: platformPackage, version }) });
  return writeTorch(folder, version);
}

function failure(work: () => unknown): LibTorchNotFoundError {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof LibTorchNotFoundError, String(error));
    return error;
  }
  throw new assert.AssertionError({ message: 'nothing was thrown' });
}

describe('finding LibTorch', () => {
  const base = temporaryFolder();
  const packageRoot = join(base, 'kontrast');
  const named = writeTorch(join(base, 'named'), '2.13.0');
  const ofPackage = writePackage(packageRoot, '2.13.0');
  const ofPython = writeTorch(join(base, 'site-packages', 'torch'), '2.13.0+cpu');
  const env = isolatedEnvironment(base, ofPython);
  const cached = writeCache(env.KONTRAST_CACHE!, '2.13.0');
  const search = (more: NodeJS.ProcessEnv = {}, options: LocateOptions = {}) =>
    searchLibTorch({ env: { ...env, ...more }, packageRoot, ...options });

  it('takes LIBTORCH first, then the npm package, then the torch of Python, then the cache folder', () => {
    const found = (more?: NodeJS.ProcessEnv) => {
      const { root, source } = search(more);
      return { root, source };
    };
    assert.deepEqual(found({ LIBTORCH: named }), { root: named, source: 'environment' });
    assert.deepEqual(found(), { root: ofPackage, source: 'package' });
    rmSync(ofPackage, { recursive: true });
    assert.deepEqual(found(), { root: ofPython, source: 'python' });
    rmSync(ofPython, { recursive: true });
    assert.deepEqual(found(), { root: cached, source: 'cache' });
    writeTorch(ofPython, '2.13.0+cpu');
  });

  it('takes what kontrast setup --cuda has chosen before all but LIBTORCH, while it fits', () => {
    const cuda = writeCache(env.KONTRAST_CACHE!, '2.13.0', 'cu130');
    const chosen = { root: cuda, source: 'cache' as const };
    writePackage(packageRoot, '2.13.0');
    writeChoice(env.KONTRAST_CACHE!, chosen);
    assert.deepEqual([search().root, search().source], [cuda, 'cache']);
    assert.equal(search({ LIBTORCH: named }).source, 'environment');
    // A choice that was damaged, removed or is of another version is passed over, and told of when nothing else fits.
    const rest = { PATH: '', KONTRAST_CACHE: join(base, 'other-cache') };
    const nowhere = join(base, 'nowhere');
    writeChoice(rest.KONTRAST_CACHE, chosen);
    for (const [spoil, options, reason] of [
      [() => undefined, { builtFor: '2.14' }, 'version 2.13.0, but the addon was built for 2.14'],
      [() => rmSync(join(cuda, 'include'), { recursive: true }), { needsHeaders: true }, /^its headers/],
      [() => writeFiles(cuda, { [`lib/${essentialLibraries[1]}`]: 'short' }), {}, /damaged/],
      [() => rmSync(cuda, { recursive: true }), {}, /damaged \(missing/],
    ] as const) {
      spoil();
      const { tried } = failure(() => search(rest, { packageRoot: nowhere, ...options }));
      assert.equal(tried[0]!.place, 'choice of kontrast setup --cuda');
      assert.match(tried[0]!.reason, typeof reason === 'string' ? new RegExp(reason) : reason);
    }
    writeChoice(rest.KONTRAST_CACHE, { root: ofPython, source: 'python' });
    assert.equal(search(rest, { packageRoot: nowhere }).source, 'python');
    rmSync(join(cuda, '..'), { recursive: true });
    removeChoice(env.KONTRAST_CACHE!);
    rmSync(ofPackage, { recursive: true });
  });

  it('passes over a version that does not fit, in every place but LIBTORCH', () => {
    writeTorch(ofPython, '2.9.1');
    assert.equal(search().source, 'cache');
    const error = failure(() => search({ LIBTORCH: ofPython }));
    assert.equal(error.code, 'LIBTORCH_VERSION');
    assert.match(error.message, /Correct LIBTORCH, or unset it and use one of the others:/);
    assert.deepEqual(
      error.tried.map(({ place, reason }) => `${place}: ${reason}`),
      [
        'LIBTORCH: version 2.9.1 is older than 2.11',
        'every other place: not tried while LIBTORCH is set; correct or unset it',
      ],
    );
    writeTorch(ofPython, '2.13.0+cpu');
  });

  it('insists on the headers only when they are needed', () => {
    const bare = writeTorch(join(base, 'bare'), '2.13.0');
    rmSync(join(bare, 'include'), { recursive: true });
    assert.equal(search({ LIBTORCH: bare }).hasHeaders, false);
    assert.match(failure(() => search({ LIBTORCH: bare }, { needsHeaders: true })).message, /headers .* are missing/);
  });

  it('prefers the pinned version in the cache, then the newest, and refuses what is damaged or unfinished', () => {
    const own = isolatedEnvironment(join(base, 'cache-only'));
    const cache = own.KONTRAST_CACHE!;
    const find = (builtFor?: string) => searchLibTorch({ env: own, packageRoot, builtFor }).root;
    const oldest = writeCache(cache, '2.11.0');
    const newest = writeCache(cache, '2.14.0');
    assert.equal(find(), newest);
    assert.equal(find('2.11'), oldest);
    const pinned = writeCache(cache, '2.13.0');
    assert.equal(find(), pinned);
    writeFiles(pinned, { [`lib/${essentialLibraries[1]}`]: 'short' });
    assert.equal(find(), newest);
    rmSync(join(newest, '..', manifestName));
    assert.equal(find(), oldest);
    const reasons = failure(() => find('2.13')).tried.map(({ reason }) => reason);
    assert.deepEqual(reasons.slice(3), [
      `lib/${essentialLibraries[1]} is damaged (5 bytes, not 9 bytes)`,
      'it was not finished (no manifest)',
      'version 2.11.0, but the addon was built for 2.13',
    ]);
  });

  it('says what was tried, why each was refused, and how to fix it', () => {
    const own = isolatedEnvironment(join(base, 'nothing'));
    // Node remembers where it has found a package, so this needs a folder that never had one.
    const error = failure(() => searchLibTorch({ env: own, packageRoot: join(base, 'nothing') }));
    assert.equal(error.code, 'LIBTORCH_NOT_FOUND');
    const python = process.platform === 'win32' ? 'python' : 'python3';
    assert.equal(
      error.message,
      [
        'LibTorch was not found.',
        'Tried, in this order:',
        '  1. LIBTORCH: not set',
        `  2. npm package ${platformPackage}: not installed`,
        `  3. torch of ${python}: ${python} has no torch`,
        `  4. cache folder (${own.KONTRAST_CACHE}): no LibTorch there`,
        'Any of these three fixes it:',
        "  - npx kontrast setup         fetches LibTorch 2.13.0 into kontrast's own cache folder",
        '  - pip install torch==2.13.0  for the python3 that is first on the PATH',
        '  - LIBTORCH=<folder>          an unpacked LibTorch or an installed torch package: the folder that holds lib/ and include/',
      ].join('\n'),
    );
  });

  it('tells a Python that is absent or fails from one without torch', () => {
    const reason = (path: string) =>
      failure(() => searchLibTorch({ env: { PATH: path, KONTRAST_CACHE: base }, packageRoot })).tried[2]!.reason;
    assert.match(reason(join(base, 'no-such-folder')), /^no python3? on the PATH$/);
    const broken = isolatedEnvironment(join(base, 'broken'));
    writeFiles(join(base, 'broken', 'bin'), { python3: '#!/bin/sh\necho SyntaxError: old >&2\nexit 3\n' });
    assert.match(reason(broken.PATH!), /ended with an error: SyntaxError: old$/);
  });
});

describe('finding LibTorch for the compiled addon', () => {
  const base = temporaryFolder();
  const packageRoot = join(base, 'kontrast');
  const built = writeTorch(join(base, 'built'), '2.13.0+cpu');
  const ofPython = writeTorch(join(base, 'python', 'torch'), '2.13.1');
  // A Python that fails loudly shows that it is not asked where that is not needed.
  const env = isolatedEnvironment(base, ofPython);
  const record = { libtorchVersion: '2.13.0', libtorchRoot: built, libtorchSource: 'cache' as const, sourcesHash: 'x' };
  const locate = (more: NodeJS.ProcessEnv = {}) => locateLibTorch({ env: { ...env, ...more }, packageRoot });

  it('searches every place while no build has left a record', () => {
    assert.equal(locate().root, ofPython);
    writeFiles(packageRoot, { 'build/Release/kontrast.json': '{"libtorchVersion": "2.13.0"' });
    assert.equal(locate().root, ofPython);
  });

  it('takes the folder of the build without asking Python', () => {
    writeBuildRecord(packageRoot, record);
    const { root, source } = locate({ PATH: '' });
    assert.deepEqual({ root, source }, { root: built, source: 'cache' });
  });

  it('lets what kontrast setup --cuda has chosen go before it', () => {
    const chosen = writeTorch(join(base, 'chosen'), '2.13.0+cu130');
    writeChoice(env.KONTRAST_CACHE!, { root: chosen, source: 'python' });
    assert.deepEqual([locate({ PATH: '' }).root, locate({ PATH: '' }).variant], [chosen, 'cu130']);
    writeTorch(chosen, '2.14.0+cu130');
    assert.equal(locate({ PATH: '' }).root, built);
    removeChoice(env.KONTRAST_CACHE!);
  });

  it('lets LIBTORCH go first', () => {
    assert.equal(locate({ LIBTORCH: ofPython }).source, 'environment');
    const other = writeTorch(join(base, 'other'), '2.14.0');
    const error = failure(() => locate({ LIBTORCH: other }));
    assert.equal(error.code, 'LIBTORCH_VERSION');
    assert.match(error.message, /version 2\.14\.0, but the addon was built for 2\.13/);
    assert.match(error.message, /npm run build:native/);
  });

  it('searches for the same minor release when that folder is gone or has another version', () => {
    writeTorch(built, '2.14.0');
    assert.equal(locate().root, ofPython);
    rmSync(built, { recursive: true });
    assert.equal(locate().root, ofPython);
    writeTorch(ofPython, '2.14.0');
    const error = failure(() => locate());
    assert.equal(error.code, 'LIBTORCH_VERSION');
    assert.deepEqual(error.tried[0], { place: 'where the build found it', path: built, reason: 'no such folder' });
  });
});
