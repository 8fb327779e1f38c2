// Makes a clone ready for use: npm packages, compiled TypeScript, LibTorch, compiled addon. Each step is skipped when nothing
// that it depends on has changed, so this is safe and quick to run again and again. It is plain Node without packages, because on a
// clean clone there are none yet.
//
//   node scripts/setup.mjs             every step
//   node scripts/setup.mjs typescript  that step alone (packages, typescript, libtorch, native)
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, totalmem } from 'node:os';
import { delimiter, dirname, join, relative } from 'node:path';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const require = createRequire(import.meta.url);
const isWindows = process.platform === 'win32';

/** A failure with a message for the person at the keyboard; no stack is printed. */
class SetupFailure extends Error {}

const path = (...parts) => join(root, ...parts);

function readJson(file) {
  return JSON.parse(readFileSync(file, 'utf8'));
}

/** All files below a folder, sorted, so that a hash over them does not depend on the file system's order. */
function filesBelow(folder, accepts = () => true) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const child = join(folder, entry.name);
      if (entry.isDirectory()) return filesBelow(child, accepts);
      return accepts(entry.name) ? [child] : [];
    });
}

/** A hash over names and contents of files and over further texts. */
function hashOf(files, texts = []) {
  const hash = createHash('sha256');
  for (const file of files) {
    const content = readFileSync(file);
    hash.update(`${relative(root, file)}\0${content.length}\0`).update(content);
  }
  for (const text of texts) hash.update(`\0${text}\0`);
  return hash.digest('hex');
}

function writeAtomically(file, content) {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.${process.pid}.tmp`, content, { flush: true });
  renameSync(`${file}.${process.pid}.tmp`, file);
}

function isOnPath(program) {
  const names = isWindows ? [`${program}.exe`, `${program}.cmd`] : [program];
  return (process.env.PATH ?? '')
    .split(delimiter)
    .some((folder) => names.some((name) => existsSync(join(folder, name))));
}

/** Runs a program; its output is shown at once, or kept back and shown only when it fails. */
function run(program, args, { quiet = false, shell = false } = {}) {
  const result = spawnSync(program, args, { cwd: root, stdio: quiet ? 'pipe' : 'inherit', encoding: 'utf8', shell });
  if (result.error) throw new SetupFailure(`${program} could not be started: ${result.error.message}`);
  if (result.status !== 0) {
    if (quiet) process.stderr.write(`${result.stdout}${result.stderr}`);
    throw new SetupFailure(
      `'${[program, ...args].join(' ')}' failed (${result.signal ?? `exit status ${result.status}`})`,
    );
  }
}

// --- packages ---------------------------------------------------------------------------------------------------------

/** Whether node_modules holds what the lock file asks for; npm keeps its own list of what it has installed. */
function packagesAreInstalled() {
  const installedList = path('node_modules', '.package-lock.json');
  if (!existsSync(installedList)) return false;
  const wanted = readJson(path('package-lock.json')).packages;
  const installed = readJson(installedList).packages;
  return Object.entries(wanted).every(([name, { version, optional, devOptional, link }]) => {
    if (name === '' || link) return true;
    return installed[name] ? installed[name].version === version : Boolean(optional || devOptional);
  });
}

function installPackages() {
  if (packagesAreInstalled()) return 'up to date';
  // No package here needs its install script, and npm would take our own binding.gyp for one and run node-gyp.
  const args = ['ci', '--no-audit', '--no-fund', '--ignore-scripts'];
  // Within `npm run` the very same npm is used; else the one on the PATH.
  if (process.env.npm_execpath?.endsWith('.js')) run(process.execPath, [process.env.npm_execpath, ...args]);
  else run('npm', args, { shell: isWindows });
  return 'installed';
}

// --- typescript -------------------------------------------------------------------------------------------------------

function buildTypeScript() {
  const stamp = path('dist', '.sources.sha256');
  const sources = filesBelow(path('src'), (name) => name.endsWith('.ts'));
  const version = readJson(require.resolve('typescript/package.json')).version;
  const hash = hashOf([...sources, path('tsconfig.json')], [version]);
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === hash && existsSync(path('dist', 'index.js')))
    return 'up to date';
  // What was compiled from a source that is gone would still be found by `require`.
  for (const file of filesBelow(path('dist'), (name) => name.endsWith('.js') || name.endsWith('.d.ts'))) {
    const source = path('src', relative(path('dist'), file).replace(/(\.d\.ts|\.js)$/, '.ts'));
    if (!existsSync(source)) rmSync(file);
  }
  // The compiler skips what its own record calls compiled, whether or not the files are still there.
  if (!existsSync(path('dist', 'index.js'))) rmSync(path('dist', '.tsbuildinfo'), { force: true });
  rmSync(stamp, { force: true });
  run(process.execPath, [require.resolve('typescript/bin/tsc'), '-p', root]);
  writeAtomically(stamp, hash);
  return 'compiled';
}

// --- libtorch ---------------------------------------------------------------------------------------------------------

async function loadLocator() {
  const compiled = path('dist', 'libtorch', 'index.js');
  if (!existsSync(compiled)) buildTypeScript();
  return require(compiled);
}

async function setupLibTorch() {
  const { setupLibTorch: setup } = await loadLocator();
  const {
    version,
    variant,
    root: folder,
  } = await setup({ forBuild: true, log: (line) => process.stdout.write(`  ${line}\n`) });
  return `${version} (${variant}) in ${folder}`;
}

// --- native -----------------------------------------------------------------------------------------------------------

function requireCompiler() {
  const missing = [];
  if (!isOnPath('cmake')) missing.push('CMake 3.18 or newer');
  const hasCompiler = isWindows || process.env.CXX || ['c++', 'g++', 'clang++'].some(isOnPath);
  if (!hasCompiler) missing.push('a compiler for C++20');
  if (isOnPath('cmake') && !isOnPath('ninja') && !isOnPath('make') && !isWindows) missing.push('Ninja or Make');
  if (missing.length === 0) return;
  throw new SetupFailure(
    `the addon is compiled here, which needs ${missing.join(' and ')}. Install with one of:\n` +
      '  Debian, Ubuntu:  sudo apt-get install cmake ninja-build g++\n' +
      '  Fedora:          sudo dnf install cmake ninja-build gcc-c++\n' +
      '  macOS:           xcode-select --install && brew install cmake ninja\n' +
      '  Windows:         Visual Studio Build Tools with "Desktop development with C++"',
  );
}

async function buildNative() {
  const { searchLibTorch, readBuildRecord, writeBuildRecord } = await loadLocator();
  const libtorch = searchLibTorch({ needsHeaders: true });
  const sources = [...filesBelow(path('native')), path('CMakeLists.txt')];
  const library = filesBelow(libtorch.lib, (name) => /^(lib)?torch_cpu\.(so|dylib|dll|lib)$/.test(name)).map((file) => {
    const { size, mtimeMs } = statSync(file);
    return `${file} ${size} ${mtimeMs}`;
  });
  const headers = ['node-api-headers', 'node-addon-api'].map(
    (name) => `${name} ${readJson(path('node_modules', name, 'package.json')).version}`,
  );
  const hash = hashOf(sources, [...library, ...headers, libtorch.version, process.platform, process.arch]);
  const outputs = ['kontrast.node', 'kontrast_loader.node'].map((name) => path('build', 'Release', name));
  const record = readBuildRecord(root);
  if (record?.sourcesHash === hash && outputs.every((file) => existsSync(file))) return 'up to date';

  requireCompiler();
  const build = path('build');
  // CMake refuses a build folder that was made elsewhere (a moved or copied clone).
  const cache = join(build, 'CMakeCache.txt');
  if (existsSync(cache)) {
    const home = /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$/m.exec(readFileSync(cache, 'utf8'))?.[1];
    if (home !== root.replaceAll('\\', '/')) rmSync(build, { recursive: true, force: true });
  }
  const generator = !existsSync(cache) && isOnPath('ninja') ? ['-G', 'Ninja'] : [];
  run('cmake', ['-S', root, '-B', build, ...generator, '-DCMAKE_BUILD_TYPE=Release', `-DLIBTORCH=${libtorch.root}`], {
    quiet: true,
  });
  // One compiler process takes up to two gigabytes with LibTorch's headers.
  const jobs = Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / 2 ** 31)));
  run('cmake', ['--build', build, '--config', 'Release', '--parallel', String(jobs)]);
  writeBuildRecord(root, {
    libtorchVersion: libtorch.version,
    libtorchRoot: libtorch.root,
    libtorchSource: libtorch.source,
    sourcesHash: hash,
  });
  return 'compiled';
}

// --- all of it --------------------------------------------------------------------------------------------------------

const steps = { packages: installPackages, typescript: buildTypeScript, libtorch: setupLibTorch, native: buildNative };

async function main(chosen) {
  const unknown = chosen.filter((name) => !Object.hasOwn(steps, name));
  if (unknown.length > 0)
    throw new SetupFailure(`unknown step '${unknown[0]}'; the steps are ${Object.keys(steps).join(', ')}`);
  const needed = Number(/\d+/.exec(readJson(path('package.json')).engines.node)[0]);
  if (Number(process.versions.node.split('.')[0]) < needed) {
    throw new SetupFailure(`kontrast needs Node.js ${needed} or newer; this is ${process.version}`);
  }
  for (const [name, step] of Object.entries(steps)) {
    if (chosen.length > 0 && !chosen.includes(name)) continue;
    const start = performance.now();
    const result = await step();
    console.log(`${name.padEnd(11)} ${result} (${((performance.now() - start) / 1000).toFixed(1)} s)`);
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  // Messages of kontrast's own errors (they carry a code) are complete; anything else is a defect and keeps its stack.
  const isOurs = error instanceof SetupFailure || typeof error?.code === 'string';
  console.error(isOurs ? `setup: ${error.message}` : error);
  process.exitCode = 1;
}
