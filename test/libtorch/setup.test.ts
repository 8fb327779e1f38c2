import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { libraryFile } from '../../src/libtorch/folder';
import { isNeeded, setupLibTorch, type SetupOptions } from '../../src/libtorch/setup';
import { isolatedEnvironment, temporaryFolder, torchWheelEntries, wheelEntries, writeTorch, zip } from './fakes';

describe('setting LibTorch up', () => {
  const base = temporaryFolder();
  let count = 0;

  /** A machine without LibTorch whose pip offers one wheel, or none. */
  function machine(wheel: Buffer | null, name = 'torch-2.13.0+cpu-cp311-cp311-linux.whl') {
    const folder = join(base, String(++count));
    mkdirSync(folder);
    const env = isolatedEnvironment(folder);
    if (wheel !== null) {
      writeFileSync(join(folder, name), wheel);
      writeFileSync(join(folder, 'offer'), join(folder, name));
    }
    const lines: string[] = [];
    const cache = env.KONTRAST_CACHE!;
    return {
      folder,
      env,
      cache,
      lines,
      setup: (options: SetupOptions = {}) =>
        setupLibTorch({ env, packageRoot: folder, log: (line) => lines.push(line), ...options }),
      inCache: () => (existsSync(cache) ? readdirSync(cache).sort() : []),
      requests: () => readFileSync(join(folder, 'pip.log'), 'utf8').trim().split('\n'),
    };
  }

  it('says where LibTorch is when it is there, and downloads nothing', async () => {
    const { env, folder, setup, lines, inCache } = machine(null);
    const root = writeTorch(join(folder, 'torch'), '2.13.0+cpu');
    const found = await setup({ env: { ...env, LIBTORCH: root } });
    assert.equal(found.root, root);
    assert.deepEqual(lines, [`LibTorch 2.13.0 (cpu) found: ${root}`]);
    assert.deepEqual(inCache(), []);
  });

  it('downloads the CPU wheel and unpacks what is needed of it', async () => {
    const { cache, setup, lines, inCache, requests } = machine(zip(torchWheelEntries('2.13.0+cpu')));
    const found = await setup();
    const folder = join(cache, 'libtorch-2.13.0-cpu');
    assert.deepEqual(
      { root: found.root, source: found.source, version: found.version, hasHeaders: found.hasHeaders },
      { root: join(folder, 'torch'), source: 'cache', version: '2.13.0', hasHeaders: true },
    );
    assert.deepEqual(inCache(), ['libtorch-2.13.0-cpu']);
    assert.deepEqual(readdirSync(folder).sort(), ['manifest.json', 'torch', 'torch-2.13.0+cpu.dist-info']);
    assert.deepEqual(readdirSync(join(folder, 'torch')).sort(), ['include', 'lib', 'share', 'version.py']);
    assert.equal(existsSync(join(folder, 'torch/lib/libtorch_python.so')), false);
    const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as {
      files: number;
      libraries: object;
    };
    assert.equal(manifest.files, 8);
    assert.deepEqual(manifest.libraries, { [libraryFile('c10')]: 3, [libraryFile('torch_cpu')]: 9 });
    assert.equal(requests().length, 1);
    assert.match(requests()[0]!, /download --only-binary :all: .*--no-deps torch==2\.13\.0\+cpu$/);
    assert.match(lines.at(-1)!, /^LibTorch 2\.13\.0 \(cpu\) is ready: 8 files, each checked, in /);

    // The second time it is found.
    lines.length = 0;
    assert.equal((await setup()).root, found.root);
    assert.match(lines[0]!, /found/);
  });

  it('asks the package index that is named', async () => {
    const { setup, requests } = machine(zip(torchWheelEntries('2.13.0+cpu')));
    await setup({ indexUrl: 'https://example.invalid/simple' });
    assert.match(requests()[0]!, /--index-url https:\/\/example\.invalid\/simple /);
  });

  it('replaces a damaged LibTorch, and a good one on request', async () => {
    const { cache, setup, inCache, requests } = machine(zip(torchWheelEntries('2.13.0+cpu')));
    const { root } = await setup();
    writeFileSync(join(root, 'lib', libraryFile('torch_cpu')), '');
    await setup();
    assert.equal(readFileSync(join(root, 'lib', libraryFile('torch_cpu')), 'utf8'), 'torch_cpu');
    writeFileSync(join(cache, 'libtorch-2.13.0-cpu', 'old'), '');
    await setup({ force: true });
    assert.equal(existsSync(join(cache, 'libtorch-2.13.0-cpu', 'old')), false);
    assert.deepEqual(inCache(), ['libtorch-2.13.0-cpu']);
    assert.equal(requests().length, 3);
  });

  it('fetches the libraries that a CUDA build needs beside itself', async () => {
    const torch = torchWheelEntries('2.13.0+cu130', { [`torch/lib/${libraryFile('torch_cuda')}`]: 'cuda' });
    const { folder, cache, setup } = machine(zip(torch), 'torch-2.13.0-cp311-cp311-linux.whl');
    const nvidia = join(folder, 'nvidia_cublas-13.0-py3-none-linux.whl');
    writeFileSync(
      nvidia,
      zip(
        wheelEntries('nvidia_cublas-13.0', {
          'nvidia/cu13/lib/libcublas.so.13': 'cublas',
          'nvidia/cu13/include/cublas.h': '',
        }),
      ),
    );
    const python = join(folder, 'sympy-1.14-py3-none-any.whl');
    writeFileSync(python, zip(wheelEntries('sympy-1.14', { 'sympy/__init__.py': '' })));
    // The second request is for the wheel that was downloaded, with all that it requires.
    const script = readFileSync(join(folder, 'bin', 'python3'), 'utf8');
    writeFileSync(
      join(folder, 'bin', 'python3'),
      script.replace(
        'while [',
        `case "$*" in *find-links*) for p; do d="$l"; l="$p"; done; cp '${nvidia}' '${python}' "$(dirname "$l")"; exit 0;; esac\nwhile [`,
      ),
    );
    const found = await setup();
    assert.deepEqual([found.variant, found.hasCuda, found.cudaVersion], ['cu130', true, '13.0']);
    const entry = join(cache, 'libtorch-2.13.0-cu130');
    assert.deepEqual(readdirSync(join(entry, 'nvidia/cu13')), ['lib']);
    assert.equal(existsSync(join(entry, 'sympy')), false);
    assert.equal(existsSync(join(entry, 'sympy-1.14.dist-info')), false);
  });

  it('leaves nothing behind when the download fails, and repeats what pip said', async () => {
    const { setup, inCache, requests } = machine(null);
    await assert.rejects(setup(), (error: Error & { code: string }) => {
      assert.equal(error.code, 'LIBTORCH_DOWNLOAD');
      assert.match(error.message, /No matching distribution found for torch==2\.13\.0\n/);
      assert.match(error.message, /--index-url .*pip install torch==2\.13\.0.*LIBTORCH/);
      return true;
    });
    assert.deepEqual(inCache(), []);
    assert.deepEqual(
      requests().map((line) => line.split(' ').pop()),
      ['torch==2.13.0+cpu', 'torch==2.13.0'],
    );
  });

  it('leaves nothing behind when the wheel is damaged or another version', async () => {
    const whole = zip(torchWheelEntries('2.13.0+cpu'));
    const flipped = torchWheelEntries('2.13.0+cpu').map((entry) =>
      entry.name.endsWith('gomp.so.1') ? { ...entry, content: Buffer.from('gimp') } : entry,
    );
    for (const [content, message] of [
      [whole.subarray(0, whole.length / 2), /is damaged/],
      [zip(flipped), /libgomp\.so\.1 does not match the hash/],
      [zip(torchWheelEntries('2.12.0+cpu')), /does not hold LibTorch 2\.13\.0: it is 2\.12\.0/],
      [zip(wheelEntries('torch-2.13.0', { 'torch/version.py': '' })), /lib\/libc10\.\w+ is missing/],
    ] as const) {
      const { setup, inCache } = machine(Buffer.from(content));
      await assert.rejects(setup(), (error: Error & { code: string }) => {
        assert.equal(error.code, 'LIBTORCH_DAMAGED');
        assert.match(error.message, message);
        return true;
      });
      assert.deepEqual(inCache(), []);
    }
  });

  it('says that there is no pip', async () => {
    const { env, folder, setup, inCache } = machine(null);
    await assert.rejects(
      setup({ env: { ...env, PATH: join(folder, 'no-such-folder') } }),
      /pip, and there is none: .*uvx pip/,
    );
    assert.deepEqual(inCache(), []);
  });

  it('does not download around a LIBTORCH that can not be used', async () => {
    const { env, setup, inCache } = machine(zip(torchWheelEntries('2.13.0+cpu')));
    await assert.rejects(setup({ env: { ...env, LIBTORCH: '/no/such/folder' } }), { code: 'LIBTORCH_NOT_FOUND' });
    assert.deepEqual(inCache(), []);
  });

  it('is done once when it is started several times at once', async () => {
    const { setup, inCache, requests, lines } = machine(zip(torchWheelEntries('2.13.0+cpu')));
    const roots = await Promise.all([1, 2, 3].map(() => setup().then(({ root }) => root)));
    assert.equal(new Set(roots).size, 1);
    assert.equal(requests().length, 1);
    assert.equal(lines.filter((line) => line.startsWith('waiting for process')).length, 2);
    assert.deepEqual(inCache(), ['libtorch-2.13.0-cpu']);
  });

  it('starts over after a process that was killed while it unpacked', async function () {
    this.timeout(120_000);
    // Enough to unpack that the kill surely comes before the end.
    const { env, folder, cache, setup, inCache } = machine(
      zip(torchWheelEntries('2.13.0+cpu', { 'torch/lib/libbig.so': Buffer.alloc(100e6, 'abc') })),
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
      await new Promise((next) => setTimeout(next, 5));
    }
    child.kill('SIGKILL');
    assert.deepEqual(await ended, [null, 'SIGKILL']);
    assert.deepEqual(inCache(), ['.setup.lock', `.tmp-${child.pid}`]);
    assert.equal((await setup()).root, join(cache, 'libtorch-2.13.0-cpu', 'torch'));
    assert.deepEqual(inCache(), ['libtorch-2.13.0-cpu']);
  });

  it('chooses libraries, headers and licences', () => {
    const needed = [
      'lib/libtorch.so',
      'lib/libgomp.so.1',
      'lib/c10.lib',
      'lib/libtorch_global_deps.so',
      'include/ATen/ATen.h',
    ];
    const rest = [
      'lib/libtorch_python.so',
      'lib/libshm.so',
      'lib/libshm/err.h',
      'lib/libjitbackend_test.so',
      'bin/protoc',
      'nn/init.py',
    ];
    for (const path of needed) assert.ok(isNeeded(`torch/${path}`), path);
    for (const path of rest) assert.ok(!isNeeded(`torch/${path}`), path);
    assert.ok(isNeeded('torch-2.13.0.dist-info/licenses/LICENSE'));
    assert.ok(!isNeeded('functorch/__init__.py'));
  });
});
