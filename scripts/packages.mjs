// Makes the npm packages: folders and tarballs in dist/packages/.
//
//   node scripts/packages.mjs [part …]    default: kontrast platform
//
// The parts: `kontrast` itself; `platform`, addon and LibTorch of this machine's; `manifests`, the folders of the other platforms with all
// but the binaries, not packed. In a release every platform's machine makes its part, and the tarballs of all are published together
// (.github/workflows/release.yml).
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { addonManifest, kontrastManifest, libtorchManifest, platforms } from './packages/manifests.mjs';
import { requirementsOf } from './packages/requirements.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const require = createRequire(import.meta.url);
const { locateLibTorch, pinnedVersion } = require('../dist/libtorch');
const { ownPlatform } = require('../dist/libtorch/platforms.js');
const out = join(root, 'dist', 'packages');

/** The most that a tarball may have, in bytes. npm refuses tarballs from about 230 MB on. */
const limits = { kontrast: 1e6, addon: 3e6, libtorch: 125e6 };

function run(program, args, options = {}) {
  const shell = process.platform === 'win32' && program === 'npm';
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8', shell, ...options });
  if (error || status !== 0) throw new Error(`${program} ${args.join(' ')} failed: ${error?.message ?? stderr}`);
  return stdout;
}

function startFolder(name, manifest, readme) {
  const folder = join(out, name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  if (readme !== undefined) writeFileSync(join(folder, 'README.md'), readme);
  return folder;
}

/** Takes away what only debuggers and linkers read: a fifth of LibTorch. */
function strip(file) {
  if (process.platform === 'linux') run('strip', ['--strip-unneeded', file]);
  if (process.platform === 'darwin') run('strip', ['-x', file]);
}

function kontrastFolder(own) {
  const folder = startFolder('kontrast', kontrastManifest(own));
  cpSync(join(root, 'bin'), join(folder, 'bin'), { recursive: true });
  for (const file of ['README.md', 'CHANGELOG.md', 'LICENSE']) cpSync(join(root, file), join(folder, file));
  for (const name of readdirSync(join(root, 'dist'))) {
    const from = join(root, 'dist', name);
    if (from === out) continue;
    const filter = (path) => statSync(path).isDirectory() || /\.(js|d\.ts)$/.test(path);
    if (filter(from)) cpSync(from, join(folder, 'dist', name), { recursive: true, filter });
  }
  return folder;
}

function addonFolder(own, platform, binaries) {
  const requirements =
    binaries === null
      ? { libtorch: pinnedVersion }
      : requirementsOf(platform, binaries.libtorch.version, [...binaries.addon, ...binaries.libraries]);
  const manifest = addonManifest(own, platform, requirements);
  const folder = startFolder(
    platform.id,
    manifest,
    `The compiled part of kontrast for ${platform.id}. It is installed with kontrast.\n`,
  );
  cpSync(join(root, 'LICENSE'), join(folder, 'LICENSE'));
  for (const file of binaries?.addon ?? []) {
    const copy = join(folder, file.split(/[\\/]/).at(-1));
    cpSync(file, copy);
    strip(copy);
  }
  return folder;
}

function libtorchFolder(own, platform, binaries) {
  const version = binaries?.libtorch.version ?? pinnedVersion;
  const manifest = libtorchManifest(own, platform, version);
  const folder = startFolder(
    `libtorch-${platform.id}-cpu`,
    manifest,
    `LibTorch ${version}, the C++ libraries of PyTorch, for the CPU of ${platform.id}, without what debuggers need. It is installed ` +
      'with kontrast. Licences: licenses/.\n',
  );
  writeFileSync(join(folder, 'build-version'), `${version}+cpu\n`);
  if (binaries === null) return folder;
  mkdirSync(join(folder, 'lib'));
  for (const file of binaries.libraries) {
    const copy = join(folder, 'lib', file.split(/[\\/]/).at(-1));
    cpSync(file, copy, { dereference: true });
    strip(copy);
  }
  cpSync(binaries.licenses, join(folder, 'licenses'), { recursive: true });
  cpSync(join(binaries.licenses, 'LICENSE'), join(folder, 'LICENSE'));
  return folder;
}

/** What was compiled and found on this machine for its own platform. */
function ownBinaries(platform) {
  const libtorch = locateLibTorch();
  if (libtorch.hasCuda) {
    throw new Error(`${libtorch.root} is a CUDA build; the package takes the one for the CPU (LIBTORCH names another)`);
  }
  const addon = ['kontrast.node', 'kontrast_loader.node'].map((name) => join(root, 'build', 'Release', name));
  const libraries = platform.libraries.map((name) => join(libtorch.lib, name));
  const missing = [...addon, ...libraries].filter((file) => !existsSync(file));
  if (missing.length > 0) throw new Error(`missing: ${missing.join(', ')}; run \`npm run setup\` first`);
  const beside = dirname(libtorch.root);
  const information = readdirSync(beside).find((name) => /^torch-.*\.dist-info$/.test(name));
  const licenses = join(beside, information ?? '', 'licenses');
  if (information === undefined || !existsSync(licenses)) throw new Error(`no licences beside ${libtorch.root}`);
  return { libtorch, addon, libraries, licenses };
}

/** What kontrast's tarball has to hold, no less and no more: of every source the compiled file and its types, and a few files beside. */
function expectedFiles() {
  const sources = readdirSync(join(root, 'src'), { recursive: true }).map((path) => path.replaceAll('\\', '/'));
  const compiled = sources
    .filter((path) => path.endsWith('.ts'))
    .flatMap((path) => ['.js', '.d.ts'].map((end) => `dist/${path.replace(/\.ts$/, end)}`));
  return ['package.json', 'README.md', 'CHANGELOG.md', 'LICENSE', 'bin/kontrast.js', ...compiled];
}

function checkFiles(filename, found, expected) {
  const missing = expected.filter((path) => !found.includes(path));
  const extra = found.filter((path) => !expected.includes(path));
  if (missing.length === 0 && extra.length === 0) return;
  throw new Error(`${filename}: missing ${missing.join(', ') || 'nothing'}; extra ${extra.join(', ') || 'nothing'}`);
}

/** What others see of kontrast's tarball: its package.json, and the types under every kind of module resolution. */
function checkTypes(folder, tarball) {
  run(process.execPath, [path('publint', 'src', 'cli.js'), folder, '--strict']);
  // Resolution as before `exports` cannot find a room such as kontrast/nn; TypeScript calls it outdated.
  run(process.execPath, [path('@arethetypeswrong', 'cli', 'dist', 'index.js'), '--profile', 'node16', tarball]);
}

function path(...parts) {
  return join(root, 'node_modules', ...parts);
}

function pack(folder, limit, expected = null) {
  const [{ filename, size, unpackedSize, entryCount, files }] = JSON.parse(
    run('npm', ['pack', folder, '--pack-destination', out, '--json', '--ignore-scripts', '--loglevel', 'error']),
  );
  if (expected !== null) {
    checkFiles(
      filename,
      files.map((file) => file.path),
      expected,
    );
    checkTypes(folder, join(out, filename));
  }
  if (size > limit) {
    throw new Error(`${filename} has ${(size / 1e6).toFixed(2)} MB, more than ${(limit / 1e6).toFixed(0)} MB`);
  }
  const megabytes = (bytes) => `${(bytes / 1e6).toFixed(2)} MB`.padStart(9);
  console.log(
    `${filename.padEnd(44)} ${megabytes(size)}, at most ${megabytes(limit)}; unpacked ${megabytes(unpackedSize)}, ${entryCount} files`,
  );
}

const parts = {
  kontrast(own) {
    pack(kontrastFolder(own), limits.kontrast, expectedFiles());
  },
  platform(own) {
    const platform = platforms.find(({ id }) => id === ownPlatform);
    if (platform === undefined) throw new Error(`there are no packages for ${ownPlatform}`);
    const binaries = ownBinaries(platform);
    pack(addonFolder(own, platform, binaries), limits.addon);
    pack(libtorchFolder(own, platform, binaries), limits.libtorch);
  },
  manifests(own) {
    for (const platform of platforms) {
      if (platform.id === ownPlatform) continue;
      addonFolder(own, platform, null);
      libtorchFolder(own, platform, null);
    }
  },
};

function main(args) {
  const chosen = args.length > 0 ? args : ['kontrast', 'platform'];
  const unknown = chosen.find((name) => !Object.hasOwn(parts, name));
  if (unknown !== undefined) {
    throw new Error(`unknown part '${unknown}'; the parts are ${Object.keys(parts).join(', ')}`);
  }
  const own = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  rmSync(out, { recursive: true, force: true });
  for (const name of chosen) parts[name](own);
}

try {
  main(process.argv.slice(2));
} catch (error) {
  console.error(`packages: ${error.message}`);
  process.exitCode = 1;
}
