import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { compile, peerPython } from '../../bench/harness/programs';

describe('bench programs', () => {
  it("finds the peers' Python where it was installed, and says how to install it where not", () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'kontrast-bench-test-'));
    try {
      assert.deepEqual(peerPython(folder), {
        unavailable: 'there is no Python peer: bench/setup-peer.sh installs it into bench/.venv',
      });
      const program = path.join(folder, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python');
      mkdirSync(path.dirname(program));
      writeFileSync(program, '');
      assert.deepEqual(peerPython(folder), { program });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('compiles a C++ peer once for the same sources, and speaks with it', function () {
    this.timeout(60_000);
    const folder = mkdtempSync(path.join(os.tmpdir(), 'kontrast-bench-test-'));
    const compiled = path.join(folder, 'compiled');
    const source = path.join(folder, 'peer.cc');
    const make = (): ReturnType<typeof compile> =>
      compile(
        source,
        [source],
        ['-std=c++20', '-I', path.join(__dirname, '..', '..', 'bench', 'harness'), source],
        compiled,
      );
    try {
      writeFileSync(source, 'no program');
      const broken = make();
      if ('unavailable' in broken && broken.unavailable.startsWith('there is no C++ compiler')) this.skip();
      assert.ok('unavailable' in broken && broken.unavailable.includes('does not compile'));
      writeFileSync(
        source,
        `#include "serve.h"
        int main() {
          return serve([](const Options& options) { return "{\\"fake\\":\\"" + std::to_string(options.number("threads")) + "\\"}"; },
                       [](const Options& options) -> std::string {
                         if (options.flag("fails")) throw std::runtime_error("line \\"one\\"\\nline two");
                         return "{\\"seconds\\":1,\\"items\\":2,\\"result\\":\\"" + options.text("word") + "\\"}";
                       });
        }`,
      );
      const launch = make();
      assert.ok('command' in launch);
      assert.deepEqual(make(), launch);
      assert.equal(readdirSync(compiled).length, 1);
      const requests = [
        { command: 'prepare', options: { threads: 2 } },
        { command: 'run', options: { word: 'yes', fails: false } },
        { command: 'run', options: { fails: true } },
        { command: 'run', options: {} },
        { command: 'close', options: {} },
      ];
      const input = requests.map((request) => `${JSON.stringify(request)}\n`).join('');
      const { stdout, status } = spawnSync(launch.command, launch.arguments, { input, encoding: 'utf8' });
      assert.equal(status, 0);
      assert.deepEqual(
        stdout
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line) as unknown),
        [
          { versions: { fake: '2.000000' } },
          { seconds: 1, items: 2, result: 'yes' },
          { error: 'line  one  line two' },
          { error: 'the request has no fails: { command : run , options :{}}' },
        ],
      );
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
