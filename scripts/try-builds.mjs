// Compiles the addon from source against other releases of LibTorch and with other tools, each in a copy of this clone, and runs a program on
// what came out. It is slow: a build takes some minutes.
//
//   node scripts/try-builds.mjs [--tool cmake|cmake-js|node-gyp] [folder of LibTorch …]
//
// Without a folder: the LibTorch that is found. A folder has lib/ and include/ (an unpacked `torch` of a wheel will do; what a CUDA build needs
// of NVIDIA's libraries has to lie where the wheels put it). Ends with `N passed, N failed`.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const require = createRequire(import.meta.url);
const { searchLibTorch } = require('../dist/libtorch');
const bin = (...parts) => join(root, 'node_modules', ...parts);

const tools = {
  cmake: (copy, libtorch) => [
    ['cmake', ['-S', copy, '-B', join(copy, 'build'), '-DCMAKE_BUILD_TYPE=Release', `-DLIBTORCH=${libtorch}`]],
    ['cmake', ['--build', join(copy, 'build'), '--parallel', '2']],
  ],
  'cmake-js': (_, libtorch) => [
    [process.execPath, [bin('cmake-js', 'bin', 'cmake-js'), 'compile', `--CDLIBTORCH=${libtorch}`, '--parallel', '2']],
  ],
  'node-gyp': () => [
    [process.execPath, [bin('node-gyp', 'bin', 'node-gyp.js'), 'rebuild', '--jobs', '2', ...nodeHeaders()]],
  ],
};

/** Where Node's headers lie beside Node itself, node-gyp need not download them. */
function nodeHeaders() {
  const prefix = join(dirname(process.execPath), '..');
  return existsSync(join(prefix, 'include', 'node', 'node_api.h')) ? [`--nodedir=${prefix}`] : [];
}

/** Uses what is most likely to differ between releases: operators by schema, autograd, operators of our own, optimisers. */
const program = `
const { AdamW, InfoNCE, Linear, libtorchBuild, scope, torch } = require('./dist');
const layer = new Linear({ inFeatures: 8, outFeatures: 4 });
const optimizer = new AdamW(layer.parameters(), { lr: 1e-2 });
const objective = new InfoNCE({ temperature: 0.1, inBatchNegatives: true });
const x = torch.randn([64, 8]);
const losses = Array.from({ length: 30 }, () => scope(() => {
  const loss = objective.forward(layer.forward(x), layer.forward(x.add(0.1)));
  loss.backward();
  optimizer.step();
  optimizer.zeroGrad();
  return loss.itemSync();
}));
if (!(losses.at(-1) < losses[0])) throw new Error('the loss did not fall: ' + losses);
console.log(libtorchBuild().version, losses[0].toFixed(3), losses.at(-1).toFixed(3));
`;

function run(program, args, options) {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    ...options,
  });
  if (error || status !== 0) {
    const said = `${stdout ?? ''}\n${stderr ?? ''}`.trim().split('\n').slice(-20).join('\n');
    throw new Error(`${[program, ...args].join(' ')} failed: ${error?.message ?? said}`);
  }
  return stdout.trim();
}

/** A copy that a build may write to, with the packages of this clone. */
function copyOf(work) {
  const copy = join(work, 'kontrast');
  mkdirSync(copy);
  for (const name of ['bin', 'dist', 'native', 'CMakeLists.txt', 'binding.gyp', 'package.json']) {
    const filter = (path) => path !== join(root, 'dist', 'packages');
    cpSync(join(root, name), join(copy, name), { recursive: true, filter });
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'), 'dir');
  return copy;
}

function tryBuild(tool, libtorch) {
  const started = performance.now();
  const work = mkdtempSync(join(tmpdir(), 'kontrast-build-'));
  const version = readFileSync(join(libtorch, 'version.py'), 'utf8').match(/__version__ = '([^']+)'/)?.[1] ?? 'unknown';
  const name = `${tool}, LibTorch ${version}`;
  try {
    const copy = copyOf(work);
    // A build for CUDA computes on the CPU here, whether or not NVIDIA's libraries are beside it.
    const options = { cwd: copy, env: { ...process.env, LIBTORCH: libtorch, KONTRAST_CUDA: '0' } };
    for (const [command, args] of tools[tool](copy, libtorch)) run(command, args, options);
    const printed = run(process.execPath, ['-e', program], options);
    console.log(`passed  ${name} (${((performance.now() - started) / 60000).toFixed(1)} min): ${printed}`);
    return true;
  } catch (error) {
    console.log(`FAILED  ${name}\n${error.message.replace(/^/gm, '        ')}`);
    return false;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function main(args) {
  const at = args.indexOf('--tool');
  const tool = at < 0 ? 'cmake' : args[at + 1];
  if (!Object.hasOwn(tools, tool))
    throw new Error(`unknown tool '${tool}'; there are ${Object.keys(tools).join(', ')}`);
  const named = args.filter((_, i) => at < 0 || (i !== at && i !== at + 1)).map((folder) => resolve(folder));
  const folders = named.length > 0 ? named : [searchLibTorch({ needsHeaders: true }).root];
  const results = folders.map((folder) => tryBuild(tool, folder));
  const passed = results.filter(Boolean).length;
  console.log(`${passed} passed, ${results.length - passed} failed`);
  process.exitCode = passed === results.length ? 0 : 1;
}

try {
  main(process.argv.slice(2));
} catch (error) {
  console.error(`try-builds: ${error.message}`);
  process.exitCode = 1;
}
