import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readChoice } from '../../src/libtorch/choice';
import type { DriverOptions } from '../../src/libtorch/cuda-driver';
import { libraryFile } from '../../src/libtorch/folder';
import { searchLibTorch } from '../../src/libtorch/locate';
import { downloadWheels, planSetup, setupLibTorch, type SetupOptions } from '../../src/libtorch/setup';
import type { SetupPlan } from '../../src/libtorch/setup-plan';
import { fakeWheelEntries, FakeIndex } from './fake-index';
import { isolatedEnvironment, temporaryFolder, torchFiles, writeTorch, zip, type ZipEntry } from './fakes';

const network = { backoffSeconds: 0.001, retries: 1, idleSeconds: 5 };
const cpuWheel = `torch-2.13.0+cpu-cp311-cp311-${ownTag()}.whl`;
const cudaWheel = `torch-2.13.0-cp311-cp311-${ownTag()}.whl`;

/** The tag of wheels for this machine. */
function ownTag(): string {
  const machine = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
  return process.platform === 'linux' ? `linux_${machine}` : 'any';
}

/** The files of PyTorch's wheel, with some that are not needed. */
function torchWheelFiles(version: string, more: Record<string, string | Buffer> = {}): Record<string, string | Buffer> {
  const files: Record<string, string | Buffer> = {};
  for (const [path, content] of Object.entries(torchFiles(version))) files[`torch/${path}`] = content;
  return {
    ...files,
    'torch/__init__.py': 'raise ImportError\n',
    'torch/lib/libtorch_python.so': 'not needed',
    'torch/lib/libgomp.so.1': 'gomp',
    'torch/share/cmake/Torch/TorchConfig.cmake': '# CMake\n',
    [`torch-${version.split('+')[0]}.dist-info/licenses/LICENSE`]: 'the licence\n',
    ...more,
  };
}

function torchWheel(version: string, more: Record<string, string | Buffer> = {}): ZipEntry[] {
  return fakeWheelEntries('torch-2.13.0-x', ['sympy>=1.13'], torchWheelFiles(version, more));
}

const noDriver: DriverOptions = { run: () => ({ failed: 'no such program' }), read: () => null };

/** A driver that supports some CUDA. */
function driverFor(version: string, cuda: string): DriverOptions {
  const output = `Driver Version: ${version}   CUDA Version: ${cuda}`;
  return { platform: 'linux', run: (_, args) => ({ output: args.length === 0 ? output : 'Some GPU, 9.0' }) };
}

describe('setting LibTorch up', function () {
  // All is forced to the disk, and that waits for what others write.
  this.timeout(180_000);
  const base = temporaryFolder();
  let count = 0;

  /** A machine without LibTorch, with a folder of wheels that has one, or none. */
  function machine(wheel: Buffer | null, torch: string | null = null) {
    const folder = join(base, String(++count));
    const offer = join(folder, 'offer');
    mkdirSync(offer, { recursive: true });
    const env: NodeJS.ProcessEnv = { ...isolatedEnvironment(folder, torch), PIP_FIND_LINKS: offer };
    if (wheel !== null) writeFileSync(join(offer, cpuWheel), wheel);
    const lines: string[] = [];
    const cache = env.KONTRAST_CACHE!;
    return {
      folder,
      env,
      cache,
      lines,
      setup: (options: SetupOptions = {}) =>
        setupLibTorch({
          env,
          packageRoot: folder,
          log: (line) => lines.push(line),
          network,
          driver: noDriver,
          ...options,
        }),
      plan: (options: SetupOptions = {}) =>
        planSetup({ env, packageRoot: folder, log: (line) => lines.push(line), network, driver: noDriver, ...options }),
      inCache: () => (existsSync(cache) ? readdirSync(cache).sort() : []),
    };
  }

  describe('for the CPU', () => {
    it('says where LibTorch is when it is there, and downloads nothing', async () => {
      const { env, folder, setup, plan, lines, inCache } = machine(null);
      const root = writeTorch(join(folder, 'torch'), '2.13.0+cpu');
      const found = await setup({ env: { ...env, LIBTORCH: root } });
      assert.equal(found.root, root);
      assert.deepEqual(lines, [`LibTorch 2.13.0 (cpu) found: ${root}`]);
      assert.deepEqual(inCache(), []);
      const planned = await plan({ env: { ...env, LIBTORCH: root } });
      assert.ok('found' in planned && planned.found.root === root);
    });

    it('unpacks what is needed of the CPU wheel', async () => {
      const { cache, setup, lines, inCache } = machine(zip(torchWheel('2.13.0+cpu')));
      const found = await setup();
      const folder = join(cache, 'libtorch-2.13.0-cpu');
      assert.deepEqual(
        { root: found.root, source: found.source, version: found.version, hasHeaders: found.hasHeaders },
        { root: join(folder, 'torch'), source: 'cache', version: '2.13.0', hasHeaders: true },
      );
      assert.deepEqual(inCache(), ['libtorch-2.13.0-cpu']);
      assert.deepEqual(readdirSync(folder).sort(), ['manifest.json', 'torch', 'torch-2.13.0.dist-info']);
      assert.deepEqual(readdirSync(join(folder, 'torch')).sort(), ['include', 'lib', 'share', 'version.py']);
      assert.equal(existsSync(join(folder, 'torch/lib/libtorch_python.so')), false);
      const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as {
        files: number;
        libraries: object;
        wheels: string[];
      };
      assert.equal(manifest.files, 9);
      assert.deepEqual(manifest.wheels, [cpuWheel]);
      assert.deepEqual(manifest.libraries, { [libraryFile('c10')]: 3, [libraryFile('torch_cpu')]: 9 });
      assert.match(lines.at(-1)!, /^LibTorch 2\.13\.0 \(cpu\) is ready: 9 files, each checked, in /);

      // The second time it is found.
      lines.length = 0;
      assert.equal((await setup()).root, found.root);
      assert.match(lines[0]!, /found/);
    });

    it('replaces a damaged LibTorch, and a good one on request', async () => {
      const { cache, setup, inCache } = machine(zip(torchWheel('2.13.0+cpu')));
      const { root } = await setup();
      writeFileSync(join(root, 'lib', libraryFile('torch_cpu')), '');
      await setup();
      assert.equal(readFileSync(join(root, 'lib', libraryFile('torch_cpu')), 'utf8'), 'torch_cpu');
      writeFileSync(join(cache, 'libtorch-2.13.0-cpu', 'old'), '');
      await setup({ force: true });
      assert.equal(existsSync(join(cache, 'libtorch-2.13.0-cpu', 'old')), false);
      assert.deepEqual(inCache(), ['libtorch-2.13.0-cpu']);
    });

    it('leaves nothing behind when no wheel is found, and says where it looked', async () => {
      const { folder, setup, inCache } = machine(null);
      await assert.rejects(setup(), (error: Error & { code: string }) => {
        assert.equal(error.code, 'LIBTORCH_DOWNLOAD');
        assert.match(error.message, / {2}- torch-2\.13\.0\+cpu-\*\.whl\n/);
        assert.ok(error.message.includes(join(folder, 'offer')), error.message);
        return true;
      });
      assert.deepEqual(inCache(), []);
    });

    it('leaves nothing behind when the wheel is damaged or another version', async () => {
      const whole = zip(torchWheel('2.13.0+cpu'));
      const flipped = torchWheel('2.13.0+cpu').map((entry) =>
        entry.name.endsWith('gomp.so.1') ? { ...entry, content: Buffer.from('gimp') } : entry,
      );
      for (const [content, message] of [
        [whole.subarray(0, whole.length / 2), /is damaged/],
        [zip(flipped), /libgomp\.so\.1 does not match the hash/],
        [zip(torchWheel('2.12.0+cpu')), /does not hold LibTorch 2\.13\.0: it is 2\.12\.0/],
        [zip(fakeWheelEntries('torch-2.13.0-x', [], { 'torch/version.py': '' })), /lib\/libc10\.\w+ is missing/],
      ] as const) {
        const { setup, inCache, env } = machine(Buffer.from(content));
        await assert.rejects(setup(), (error: Error & { code: string }) => {
          assert.equal(error.code, 'LIBTORCH_DAMAGED');
          assert.match(error.message, message);
          return true;
        });
        assert.deepEqual(inCache(), []);
        // What is not ours is not deleted.
        assert.deepEqual(readdirSync(env.PIP_FIND_LINKS!), [cpuWheel]);
      }
    });

    it('does not download around a LIBTORCH that can not be used', async () => {
      const { env, setup, inCache } = machine(zip(torchWheel('2.13.0+cpu')));
      await assert.rejects(setup({ env: { ...env, LIBTORCH: '/no/such/folder' } }), { code: 'LIBTORCH_NOT_FOUND' });
      assert.deepEqual(inCache(), []);
    });

    it('is done once when it is started several times at once', async () => {
      const { setup, inCache, lines } = machine(zip(torchWheel('2.13.0+cpu')));
      const roots = await Promise.all([1, 2, 3].map(() => setup().then(({ root }) => root)));
      assert.equal(new Set(roots).size, 1);
      assert.equal(lines.filter((line) => /is ready/.test(line)).length, 1);
      assert.equal(lines.filter((line) => line.startsWith('waiting for process')).length, 2);
      assert.deepEqual(inCache(), ['libtorch-2.13.0-cpu']);
    });

    it('starts over after a process that was killed while it unpacked', async function () {
      this.timeout(120_000);
      // Enough to unpack that the kill surely comes before the end.
      const { env, folder, cache, setup, inCache } = machine(
        zip(torchWheel('2.13.0+cpu', { 'torch/lib/libbig.so': Buffer.alloc(40e6, 'abc') })),
      );
      const program = `
        require('ts-node').register({ transpileOnly: true });
        const { setupLibTorch } = require('./src/libtorch');
        setupLibTorch({ packageRoot: ${JSON.stringify(folder)}, log: (line) => console.log(line) });`;
      const child = spawn(process.execPath, ['-e', program], {
        cwd: resolve(__dirname, '..', '..'),
        env,
        stdio: 'ignore',
      });
      const ended = once(child, 'exit');
      const big = join(cache, `.tmp-${child.pid}`, 'libtorch', 'torch', 'lib', 'libbig.so');
      while (!existsSync(big)) {
        assert.equal(child.exitCode, null, 'the set-up ended before it could be killed');
        await sleep(5);
      }
      child.kill('SIGKILL');
      assert.deepEqual(await ended, [null, 'SIGKILL']);
      assert.deepEqual(inCache(), ['.setup.lock', `.tmp-${child.pid}`]);
      assert.equal((await setup()).root, join(cache, 'libtorch-2.13.0-cpu', 'torch'));
      assert.deepEqual(inCache(), ['libtorch-2.13.0-cpu']);
    });
  });

  describe('with CUDA', () => {
    const index = new FakeIndex();
    const cublas = `nvidia_cublas-13.1.1.3-py3-none-${ownTag()}.whl`;
    const toolkit = 'cuda_toolkit-13.0.3.0-py2.py3-none-any.whl';
    const cudaLibrary = `torch/lib/${libraryFile('torch_cuda')}`;
    const requires = ['cuda-toolkit[cublas]==13.0.3; platform_system != "Darwin"', 'triton==3.7.1', 'sympy'];
    before(() => {
      index.add(cudaWheel, requires, torchWheelFiles('2.13.0+cu130', { [cudaLibrary]: randomBytes(400_000) }));
      index.add(toolkit, ["nvidia-cublas==13.1.1.3.*; extra == 'cublas'"], { 'cuda_toolkit/__init__.py': '' });
      index.add(cublas, [], {
        'nvidia/cu13/lib/libcublas.so.13': randomBytes(200_000),
        'nvidia/cu13/include/cublas.h': 'not needed',
        'nvidia_cublas-13.1.1.3.dist-info/licenses/License.txt': "NVIDIA's terms\n",
      });
    });
    const fromIndex = (): SetupOptions => ({ cuda: true, indexUrl: index.url, driver: driverFor('580.65.06', '13.0') });
    const networked = (torch: string | null = null) => {
      const made = machine(null, torch);
      // Without this only folders would be asked.
      delete made.env.PIP_NO_INDEX;
      return made;
    };

    it("fetches PyTorch's wheel and NVIDIA's libraries, and is preferred from then on", async () => {
      const { setup, cache, lines, inCache, env, folder } = networked();
      const plans: SetupPlan[] = [];
      const confirm = (plan: SetupPlan) => Promise.resolve(plans.push(plan) > 0);
      const seen: [number, number][] = [];
      const progress = {
        start: (total: number, done: number) => seen.push([total, done]),
        update: (done: number) => seen.push([seen[0]![0], done]),
        stop: () => seen.push([0, 0]),
      };
      const found = await setup({ ...fromIndex(), confirm, progress });
      assert.deepEqual([found.variant, found.hasCuda, found.cudaVersion], ['cu130', true, '13.0']);
      const entry = join(cache, 'libtorch-2.13.0-cu130');
      // As in the wheels, since PyTorch's libraries look for NVIDIA's by the way from one to the other.
      assert.deepEqual(readdirSync(join(entry, 'nvidia/cu13')), ['lib']);
      assert.ok(existsSync(join(entry, 'nvidia_cublas-13.1.1.3.dist-info/licenses/License.txt')));
      assert.equal(existsSync(join(entry, 'cuda_toolkit-13.0.3.0.dist-info')), false);
      assert.deepEqual(inCache(), ['chosen.json', 'libtorch-2.13.0-cu130']);
      assert.match(
        lines[0]!,
        /^driver 580\.65\.06 for Some GPU supports CUDA 13\.0: taking the build with CUDA 13\.0$/,
      );

      // The plan told of exactly what was downloaded and unpacked.
      const [plan] = plans;
      assert.deepEqual(
        plan!.wheels.map(({ fileName }) => fileName),
        [cudaWheel, toolkit, cublas],
      );
      const bytes = [...index.wheels.values()].reduce((sum, { length }) => sum + length, 0);
      assert.equal(plan!.downloadBytes, bytes);
      const manifest = JSON.parse(readFileSync(join(entry, 'manifest.json'), 'utf8')) as { bytes: number };
      assert.ok(plan!.installedBytes - manifest.bytes < 2000 && plan!.installedBytes >= manifest.bytes);
      assert.deepEqual(
        [seen[0], seen.at(-2), seen.at(-1)],
        [
          [bytes, 0],
          [bytes, bytes],
          [0, 0],
        ],
      );

      // It goes before a CPU build that is there, until that is asked for.
      const ofPython = writeTorch(join(folder, 'python', 'torch'), '2.13.0+cpu');
      const both = { ...env, PATH: isolatedEnvironment(join(folder, 'python'), ofPython).PATH };
      assert.equal(searchLibTorch({ env: both, packageRoot: folder }).variant, 'cu130');
      assert.equal((await setup({ env: both, cpu: true })).root, ofPython);
      assert.equal(readChoice(cache), null);
      assert.match(lines.join('\n'), /the build with CUDA is no longer preferred\nLibTorch 2\.13\.0 \(cpu\) found/);

      // Asked for again, it is taken from the cache.
      index.requests.length = 0;
      assert.equal((await setup({ ...fromIndex(), env: both })).variant, 'cu130');
      assert.deepEqual(index.requests, []);
      assert.deepEqual(readChoice(cache), { root: join(entry, 'torch'), source: 'cache' });
    });

    it('is fetched for the CPU where there is no other build, which is said and not preferred', async () => {
      const { setup, lines, inCache } = networked();
      assert.equal((await setup({ indexUrl: index.url })).variant, 'cu130');
      assert.equal(
        lines[0],
        'no build for the CPU alone was found; the one with CUDA computes on the CPU as well, but it is big',
      );
      assert.deepEqual(inCache(), ['libtorch-2.13.0-cu130']);
    });

    it('plans without a change', async () => {
      const { plan, inCache } = networked();
      const planned = await plan(fromIndex());
      assert.ok('plan' in planned);
      assert.equal(planned.plan.variant, 'cu130');
      assert.deepEqual(inCache(), []);
      assert.ok(index.fileRequests.length > 0 && index.fileRequests.every((line) => / bytes=/.test(line)));
    });

    it('goes on with what an interrupted set-up has downloaded', async () => {
      const { setup, inCache, cache, plan } = networked();
      // Looking into the wheel takes parts of it, which arrive.
      index.behaviour.breakAfter = (path, range) =>
        path.endsWith(cudaWheel) && range === undefined ? 300_000 : undefined;
      const once = { ...network, retries: 0 };
      await assert.rejects(setup({ ...fromIndex(), network: once }), { code: 'LIBTORCH_DOWNLOAD' });
      assert.deepEqual(inCache(), ['downloads']);
      const [part] = readdirSync(join(cache, 'downloads'));
      assert.equal(part, `${cudaWheel}.part`);
      delete index.behaviour.breakAfter;
      const planned = await plan(fromIndex());
      assert.ok('plan' in planned);
      assert.ok(planned.plan.wheels[0]!.here > 0 && planned.plan.wheels[0]!.here < planned.plan.wheels[0]!.size!);
      index.requests.length = 0;
      await setup(fromIndex());
      assert.ok(
        index.fileRequests.some((line) =>
          line.startsWith(`/files/${cudaWheel} bytes=${planned.plan.wheels[0]!.here}-`),
        ),
      );
      assert.deepEqual(inCache(), ['chosen.json', 'libtorch-2.13.0-cu130']);
    });

    it('fetches a wheel anew that turned out to be damaged', async () => {
      const { setup, inCache } = networked();
      const good = index.wheels.get(cublas)!;
      const library = 'nvidia/cu13/lib/libcublas.so.13';
      const bad = fakeWheelEntries(cublas, [], { [library]: 'abc' }).map((entry) =>
        entry.name === library ? { ...entry, content: Buffer.from('abd') } : entry,
      );
      index.wheels.set(cublas, zip(bad));
      try {
        await assert.rejects(setup(fromIndex()), {
          code: 'LIBTORCH_DAMAGED',
          message: /libcublas\.so\.13 does not match/,
        });
      } finally {
        index.wheels.set(cublas, good);
      }
      assert.deepEqual(inCache(), ['downloads']);
      await setup(fromIndex());
      assert.deepEqual(inCache(), ['chosen.json', 'libtorch-2.13.0-cu130']);
    });

    it('downloads first what hides its requirements', async () => {
      const { setup, lines, plan } = networked();
      index.behaviour.ranges = false;
      const usual = index.wheels.get(cudaWheel)!;
      // Small files are read whole anyway.
      index.wheels.set(
        cudaWheel,
        zip(
          fakeWheelEntries(
            cudaWheel,
            requires,
            torchWheelFiles('2.13.0+cu130', { [cudaLibrary]: randomBytes(5 << 20) }),
          ),
        ),
      );
      const planned = await plan(fromIndex());
      assert.ok('plan' in planned);
      assert.deepEqual([planned.plan.isComplete, planned.plan.wheels.length], [false, 1]);
      assert.equal((await setup(fromIndex())).variant, 'cu130');
      index.wheels.set(cudaWheel, usual);
      assert.match(lines.join('\n'), /is downloaded first: its server shows what it requires only with the whole file/);
    });

    it('takes a torch of Python that fits, and says why one does not', async () => {
      const site = (version: string, cuda: boolean) => {
        const root = writeTorch(join(base, `site-${++count}`, 'torch'), version);
        if (cuda) writeFileSync(join(root, 'lib', libraryFile('torch_cuda')), 'cuda');
        return root;
      };
      const fitting = site('2.13.1+cu126', true);
      const { setup, cache, lines } = networked(fitting);
      const found = await setup(fromIndex());
      assert.deepEqual([found.root, found.source, found.variant], [fitting, 'python', 'cu126']);
      assert.deepEqual(readChoice(cache), { root: fitting, source: 'python' });
      assert.deepEqual(index.requests, []);
      assert.match(lines.at(-1)!, /^LibTorch 2\.13\.1 \(cu126\) found: /);
      // Unless another was asked for, or a download.
      assert.equal((await setup({ ...fromIndex(), force: true })).source, 'cache');

      for (const [root, reason, more] of [
        [site('2.13.0+cpu', false), 'it has no CUDA', {}],
        [site('2.10.0+cu130', true), 'version 2.10.0 is older than 2.11', {}],
        [site('2.13.0+cu126', true), 'it is the build cu126, not cu130', { variant: 'cu130' }],
        [site('2.13.0+cu132', true), 'CUDA 13.2 needs the driver 580 or newer', { driver: driverFor('570.1', '12.8') }],
        [site('2.13.0+cu151', true), 'CUDA 15.1 needs the driver that comes with CUDA 15.1 or newer', {}],
      ] as const) {
        const other = networked(root);
        await other.plan({ ...fromIndex(), ...more }).catch(() => undefined);
        const told = other.lines.find((line) => line.startsWith('the torch of '));
        assert.ok(told?.endsWith(`(${root}) is not taken: ${reason}`), `${told}, not ${reason}`);
      }
    });

    it('needs a driver, or a name; warns of a build that the driver does not support', async () => {
      const { setup, lines, inCache } = networked();
      await assert.rejects(setup({ ...fromIndex(), driver: noDriver }), {
        code: 'LIBTORCH_CUDA',
        message: /No driver .*nvidia-smi: no such program[^]*--variant cu130$/s,
      });
      assert.deepEqual(inCache(), []);
      assert.equal(
        (await setup({ ...fromIndex(), cuda: undefined, variant: 'cu130', driver: noDriver })).variant,
        'cu130',
      );
      lines.length = 0;
      await setup({ ...fromIndex(), variant: 'cu130', driver: driverFor('570.1', '12.8') });
      assert.equal(lines[0], 'warning: CUDA 13.0 needs the driver 580 or newer');
    });

    it('refuses what can not be meant', async () => {
      const { setup, env } = networked();
      await assert.rejects(setup({ variant: 'cpu' }), { code: 'INVALID_ARGUMENT', message: /names such as cu126/ });
      await assert.rejects(setup({ cuda: true, cpu: true }), { code: 'INVALID_ARGUMENT' });
      const root = writeTorch(join(base, `env-${++count}`), '2.13.0+cpu');
      await assert.rejects(setup({ ...fromIndex(), env: { ...env, LIBTORCH: root } }), {
        code: 'LIBTORCH_CUDA',
        message: /LIBTORCH is set .* names a build without CUDA/,
      });
      writeFileSync(join(root, 'lib', libraryFile('torch_cuda')), 'cuda');
      assert.equal((await setup({ ...fromIndex(), env: { ...env, LIBTORCH: root } })).source, 'environment');
    });

    it('downloads nothing when it is declined', async () => {
      const { setup, inCache } = networked();
      const confirm = () => Promise.resolve(false);
      await assert.rejects(setup({ ...fromIndex(), confirm }), { code: 'LIBTORCH_DECLINED' });
      assert.deepEqual(inCache(), []);
    });

    it('works without a network from a folder that was filled elsewhere', async () => {
      const wheels = join(base, `wheels-${++count}`);
      const paths = await downloadWheels(wheels, {
        ...fromIndex(),
        env: networked().env,
        log: () => undefined,
        network,
      });
      assert.deepEqual(
        paths.map((path) => path.slice(wheels.length + 1)),
        [cudaWheel, toolkit, cublas],
      );
      assert.deepEqual(readdirSync(wheels).sort(), [cudaWheel, toolkit, cublas].sort());

      index.requests.length = 0;
      const { setup, inCache } = networked();
      const found = await setup({ variant: 'cu130', wheels, driver: noDriver });
      assert.equal(found.variant, 'cu130');
      assert.deepEqual(index.requests, []);
      assert.deepEqual(inCache(), ['chosen.json', 'libtorch-2.13.0-cu130']);
      assert.equal(readdirSync(wheels).length, 3);

      // Filled from a folder as well as from an index.
      const copy = join(base, `wheels-${++count}`);
      await downloadWheels(copy, {
        variant: 'cu130',
        wheels,
        env: networked().env,
        log: () => undefined,
        driver: noDriver,
      });
      assert.equal(readdirSync(copy).length, 3);
    });
  });
});
