import assert from 'node:assert/strict';
import { cudaOfDriver, findCudaDriver, type DriverOptions } from '../../src/libtorch/cuda-driver';

/** The head of the table that nvidia-smi prints. */
function table(driver: string, cuda: string): string {
  return [
    '+-----------------------------------------------------------------------------------------+',
    `| NVIDIA-SMI ${driver}              Driver Version: ${driver}      ${cuda}     |`,
    '|-----------------------------------------+------------------------+----------------------+',
  ].join('\n');
}

describe("NVIDIA's driver", () => {
  const nothing: DriverOptions = {
    platform: 'linux',
    env: {},
    run: () => ({ failed: 'no such program' }),
    read: () => null,
  };
  const smi = (output: string, gpus: { output: string } | { failed: string }): DriverOptions => ({
    ...nothing,
    run: (_program, args) => (args.length === 0 ? { output } : gpus),
  });

  it('is asked for its version, its CUDA and its GPUs', () => {
    const gpus = { output: 'NVIDIA H100 80GB HBM3, 9.0\r\nTesla, old model, 6.1\nOther, [N/A]\n' };
    assert.deepEqual(findCudaDriver(smi(table('580.65.06', 'CUDA Version: 13.0'), gpus)), {
      driver: {
        version: '580.65.06',
        cuda: '13.0',
        gpus: [
          { name: 'NVIDIA H100 80GB HBM3', capability: '9.0' },
          { name: 'Tesla, old model', capability: '6.1' },
          { name: 'Other', capability: null },
        ],
        source: 'nvidia-smi',
      },
    });
    // Drivers whose tool can't be asked for capabilities, or that name the version otherwise or not at all.
    for (const [cuda, expected] of [
      ['CUDA UMD Version: 13.2', '13.2'],
      ['CUDA Version: N/A', '13.1'],
    ] as const) {
      const found = findCudaDriver(smi(table('591.10', cuda), { failed: 'not a field' }));
      assert.ok('driver' in found);
      assert.deepEqual([found.driver.cuda, found.driver.gpus], [expected, []]);
    }
  });

  it('is looked for where Windows and WSL keep its tools', () => {
    const asked: string[] = [];
    const run = (program: string) => {
      asked.push(program);
      return { failed: 'no' };
    };
    findCudaDriver({ ...nothing, run });
    findCudaDriver({ platform: 'win32', env: { SystemRoot: 'W:', ProgramFiles: 'P:' }, run });
    assert.deepEqual(
      asked.map((program) => program.replaceAll('\\', '/')),
      [
        'nvidia-smi',
        '/usr/lib/wsl/lib/nvidia-smi',
        'nvidia-smi',
        'W:/System32/nvidia-smi.exe',
        'P:/NVIDIA Corporation/NVSMI/nvidia-smi.exe',
      ],
    );
  });

  it("is known from the kernel's module where there is no tool", () => {
    for (const [text, version, cuda] of [
      [
        'NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version: 12',
        '535.183.01',
        '12.2',
      ],
      ['NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build', '580.65.06', '13.0'],
    ]) {
      assert.deepEqual(findCudaDriver({ ...nothing, read: () => text! }), {
        driver: { version, cuda, gpus: [], source: '/proc/driver/nvidia/version' },
      });
    }
  });

  it('that is not there is told with all that was looked at', () => {
    const failing = {
      ...nothing,
      run: (program: string) => ({ failed: program === 'nvidia-smi' ? "couldn't communicate" : 'no such program' }),
    };
    assert.deepEqual(findCudaDriver(failing), {
      looked: [
        "nvidia-smi: couldn't communicate",
        '/usr/lib/wsl/lib/nvidia-smi: no such program',
        '/proc/driver/nvidia/version: no such file',
      ],
    });
    const old = findCudaDriver({ ...smi(table('390.10', ''), { failed: '' }), read: () => 'Kernel Module  390.10' });
    assert.ok('looked' in old);
    assert.match(old.looked.join('\n'), /the driver 390\.10 is older than CUDA 12\.0[^]*no version that is known/);
    const none = findCudaDriver(smi('No devices were found\n', { failed: '' }));
    assert.ok('looked' in none);
    assert.match(none.looked[0]!, /it printed no driver's version: No devices were found/);
    assert.deepEqual(findCudaDriver({ platform: 'darwin' }), { looked: ['this is macOS, which has no CUDA'] });
  });

  it('is really asked', () => {
    const found = findCudaDriver({ platform: 'linux', env: { PATH: '/no/such/folder' }, read: () => null });
    if ('looked' in found) assert.equal(found.looked[0], 'nvidia-smi: no such program');
  });

  it('supports CUDA by its version', () => {
    for (const [version, cuda] of [
      ['524.99', null],
      ['525.60.13', '12.0'],
      ['560.35.03', '12.6'],
      ['579.1', '12.9'],
      ['580.65.06', '13.0'],
      ['595.58.03', '13.2'],
      ['700.1', '13.2'],
    ]) {
      assert.equal(cudaOfDriver(version!), cuda, version!);
    }
  });
});
