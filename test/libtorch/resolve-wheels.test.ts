import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { wheelSources } from '../../src/libtorch/package-index';
import { resolveWheels, variantOf, type Search } from '../../src/libtorch/resolve-wheels';
import { parseRequirement } from '../../src/libtorch/requirements';
import { WheelReader } from '../../src/libtorch/wheel-reader';
import { deadAddress, FakeIndex } from './fake-index';
import { temporaryFolder } from './fakes';

const http = { backoffSeconds: 0.001, retries: 0, env: {} };
const linux = 'manylinux_2_28_x86_64';

describe('choosing wheels', () => {
  const index = new FakeIndex();
  const base = temporaryFolder();
  before(() => {
    const cuda = [
      'filelock',
      'sympy>=1.13.3',
      'cuda-toolkit[cublas,nvrtc]==13.0.3; platform_system == "Linux"',
      'cuda-bindings<14,>=13.0.3; platform_system == "Linux" and python_version < "3.15"',
      'nvidia-nccl-cu13==2.29.7; platform_system == "Linux"',
      'nvidia-cudnn-cu13==9.20.0.48; platform_system == "Windows"',
      'triton==3.7.1; platform_system == "Linux"',
      'optree>=0.13.0; extra == "optree"',
    ];
    index.add(`torch-2.13.0-cp310-cp310-${linux}.whl`, cuda);
    index.add(`torch-2.13.0-cp314-cp314t-${linux}.whl`, cuda);
    index.add('torch-2.13.0-cp310-cp310-win_amd64.whl', ['filelock']);
    index.add(`torch-2.13.0+cu126-cp310-cp310-${linux}.whl`, ['nvidia-nccl-cu13']);
    index.add(`torch-2.12.0-cp310-cp310-${linux}.whl`, ['nvidia-cuda-runtime-cu12 (==12.6.77)']);
    index.add('cuda_toolkit-13.0.3.0-py2.py3-none-any.whl', [
      "nvidia-cublas==13.1.1.3.*; (sys_platform == 'linux' and platform_machine == 'x86_64' or sys_platform == 'win32') and extra == 'cublas'",
      "nvidia-cuda-nvrtc==13.0.88.*; extra == 'nvrtc'",
      "nvidia-npp==13.0.1.2.*; extra == 'npp'",
    ]);
    index.add('cuda_toolkit-13.2.0-py2.py3-none-any.whl', []);
    index.add(`nvidia_cublas-13.1.1.3-py3-none-${linux}.whl`, ['nvidia-nvjitlink<14,>=13.0.88']);
    index.add('nvidia_cublas-13.1.1.3-py3-none-win_amd64.whl', []);
    index.add(`nvidia_cublas-13.8.0.4-py3-none-${linux}.whl`, []);
    index.add(`nvidia_cuda_nvrtc-13.0.88-py3-none-${linux}.whl`, ['nvidia-nvjitlink!=13.5.37']);
    for (const version of ['13.0.88', '13.4.9', '13.5.37', '13.6.0rc1', '14.0.0']) {
      index.add(`nvidia_nvjitlink-${version}-py3-none-${linux}.whl`, []);
    }
    index.add(`nvidia_nccl_cu13-2.29.7-py3-none-${linux}.whl`, []);
    index.add(`nvidia_nccl_cu13-2.30.0-py3-none-${linux}.whl`, []);
  });

  function search(more: Partial<Search> = {}, ...findLinks: string[]): Search {
    return {
      version: '2.13.0',
      variant: 'cu130',
      target: { platform: 'linux', arch: 'x64', glibc: '2.31' },
      sources: wheelSources({ indexUrls: [index.url], findLinks, mayUsePytorchIndex: false }, http),
      lastResort: null,
      reader: new WheelReader(http),
      ...more,
    };
  }
  const names = async (from: Search) => (await resolveWheels(from)).wheels.map(({ fileName }) => fileName);

  it("follows what PyTorch's wheel requires of NVIDIA's libraries, and nothing else", async () => {
    const { wheels, variant, isComplete, torch } = await resolveWheels(search());
    assert.deepEqual(
      wheels.map(({ fileName }) => fileName),
      [
        `torch-2.13.0-cp310-cp310-${linux}.whl`,
        'cuda_toolkit-13.0.3.0-py2.py3-none-any.whl',
        `nvidia_cublas-13.1.1.3-py3-none-${linux}.whl`,
        `nvidia_cuda_nvrtc-13.0.88-py3-none-${linux}.whl`,
        `nvidia_nccl_cu13-2.29.7-py3-none-${linux}.whl`,
        // The newest that both who ask for it accept.
        `nvidia_nvjitlink-13.4.9-py3-none-${linux}.whl`,
      ],
    );
    assert.equal(torch, wheels[0]);
    assert.deepEqual([variant, isComplete], ['cu130', true]);
  });

  it('takes the wheel whose version names the variant', async () => {
    assert.deepEqual(await names(search({ variant: 'cu126' })), [
      `torch-2.13.0+cu126-cp310-cp310-${linux}.whl`,
      `nvidia_nccl_cu13-2.30.0-py3-none-${linux}.whl`,
    ]);
  });

  it('takes a build with CUDA for the CPU only where there is no other', async () => {
    assert.equal((await resolveWheels(search({ variant: 'cpu' }))).variant, 'cu130');
    const windows = { platform: 'win32', arch: 'x64', glibc: null } as const;
    const { variant, wheels } = await resolveWheels(search({ variant: 'cpu', target: windows }));
    assert.deepEqual(
      [variant, wheels.map(({ fileName }) => fileName)],
      ['cpu', ['torch-2.13.0-cp310-cp310-win_amd64.whl']],
    );
  });

  it('takes what is on this machine before it asks anyone', async () => {
    const name = `torch-2.13.0+cpu-cp311-cp311-${linux}.whl`;
    const content = index.add(name, ['sympy']);
    index.wheels.delete(name);
    writeFileSync(join(base, name), content);
    assert.deepEqual(await names(search({ variant: 'cpu' }, base)), [name]);
    assert.deepEqual(index.requests, []);
  });

  it('asks a last resort for a build that no other place has', async () => {
    const own = `torch-2.13.0+cu132-cp310-cp310-${linux}.whl`;
    index.add(own, ['nvidia-nccl-cu13==2.30.0']);
    const [lastResort] = wheelSources({ indexUrls: [index.url], findLinks: [], mayUsePytorchIndex: false }, http);
    const empty = { ...lastResort!, name: 'empty', wheelsOf: () => Promise.resolve([]) };
    const found = await resolveWheels(search({ variant: 'cu132', sources: [empty], lastResort: lastResort! }));
    // What it requires is looked for there as well.
    assert.deepEqual(
      found.wheels.map(({ version }) => version),
      ['2.13.0+cu132', '2.30.0'],
    );
    await assert.rejects(resolveWheels(search({ variant: 'cu132', sources: [empty] })), /Looked in:\n {2}- empty\n/);
    index.wheels.delete(own);
  });

  it('reads the variant off the requirements', () => {
    const of = (...lines: string[]) => variantOf(lines.map(parseRequirement));
    assert.equal(of('cuda-toolkit[cublas]==13.2.1'), 'cu132');
    assert.equal(of('nvidia-nccl-cu12==2.1', 'nvidia-cuda-runtime-cu12 (==12.6.77)'), 'cu126');
    assert.equal(of('nvidia-nccl-cu12==2.1'), 'cuda');
    assert.equal(of(), 'cpu');
  });

  it('says which build there is, and where it looked', async () => {
    await assert.rejects(resolveWheels(search({ variant: 'cu128' })), (error: Error & { code: string }) => {
      assert.equal(error.code, 'LIBTORCH_DOWNLOAD');
      assert.equal(
        error.message,
        [
          'Wheels that run on linux-x64 with the GNU C library 2.31 are missing:',
          '  - torch-2.13.0+cu128-*.whl',
          'There is a build of PyTorch for cu130. Looked in:',
          `  - ${index.url}`,
          'Name a package index that has them: npx kontrast setup --cuda --variant cu128 --index-url <url>',
        ].join('\n'),
      );
      return true;
    });
    const old = search({ target: { platform: 'linux', arch: 'x64', glibc: '2.17' } });
    await assert.rejects(resolveWheels(old), /GNU C library 2\.17 \(PyTorch needs 2\.28\)/);
    const musl = search({ target: { platform: 'linux', arch: 'x64', glibc: null } });
    await assert.rejects(resolveWheels(musl), /a C library other than the GNU one/);
  });

  it('goes on when one of several places fails, and tells of it when nothing is found', async () => {
    const dead = await deadAddress();
    const both = (version: string) =>
      search({
        version,
        sources: wheelSources({ indexUrls: [dead, index.url], findLinks: [], mayUsePytorchIndex: false }, http),
      });
    assert.equal((await names(both('2.13.0'))).length, 6);
    await assert.rejects(resolveWheels(both('2.99.0')), / {2}- http:\/\/127.*\/torch\/ could not be read: .*refused/);
  });

  it('names every wheel that a folder lacks', async () => {
    const folder = join(base, 'some');
    mkdirSync(folder);
    for (const [name, content] of index.wheels) {
      if (/^(torch-2\.13\.0-cp310-cp310-manylinux|cuda_toolkit-13\.0|nvidia_cuda_nvrtc)/.test(name)) {
        writeFileSync(join(folder, name), content);
      }
    }
    const sources = wheelSources({ indexUrls: [], findLinks: [folder], mayUsePytorchIndex: false }, http);
    await assert.rejects(resolveWheels(search({ sources })), (error: Error) => {
      assert.deepEqual(error.message.split('\n').slice(1, 6), [
        '  - nvidia_cublas-13.1.1.3-*.whl (cuda-toolkit requires nvidia-cublas==13.1.1.3.*)',
        '  - nvidia_nccl_cu13-2.29.7-*.whl (torch requires nvidia-nccl-cu13==2.29.7)',
        '  - nvidia_nvjitlink-*.whl (nvidia-cuda-nvrtc requires nvidia-nvjitlink!=13.5.37)',
        'Looked in:',
        `  - ${folder}`,
      ]);
      assert.match(error.message, /npx kontrast setup --cuda --variant cu130 --download-only <folder>$/);
      return true;
    });
  });

  it('is incomplete where a server hides what a wheel requires, unless the wheel may be downloaded', async () => {
    index.behaviour.ranges = false;
    const torch = `torch-2.13.0-cp310-cp310-${linux}.whl`;
    const hidden = new WheelReader(http);
    const requirementsOf = hidden.requirementsOf.bind(hidden);
    hidden.requirementsOf = (wheel) =>
      wheel.fileName === torch && wheel.url.startsWith('http') ? Promise.resolve(null) : requirementsOf(wheel);
    const incomplete = await resolveWheels(search({ reader: hidden }));
    assert.deepEqual([incomplete.isComplete, incomplete.wheels.length, incomplete.variant], [false, 1, 'cu130']);
    const complete = await resolveWheels(
      search({
        reader: hidden,
        fetchWhole: (wheel) => {
          const path = join(base, wheel.fileName);
          writeFileSync(path, index.wheels.get(wheel.fileName)!);
          return Promise.resolve(path);
        },
      }),
    );
    assert.deepEqual([complete.isComplete, complete.wheels.length], [true, 6]);
  });
});
