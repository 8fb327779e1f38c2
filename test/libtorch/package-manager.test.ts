import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { installCommand, packageManager } from '../../src/libtorch/package-manager';
import { temporaryFolder, writeFiles } from './fakes';

describe('the package manager', () => {
  const base = temporaryFolder();

  it('is told by the lock file of the project, also from below its folder', () => {
    for (const [file, manager] of [
      ['package-lock.json', 'npm'],
      ['pnpm-lock.yaml', 'pnpm'],
      ['yarn.lock', 'yarn'],
      ['.pnp.cjs', 'yarn'],
      ['bun.lock', 'bun'],
      ['bun.lockb', 'bun'],
    ] as const) {
      const project = join(base, file.replace('.', '-'));
      mkdirSync(join(project, 'src', 'deep'), { recursive: true });
      writeFiles(project, { [file]: '' });
      assert.equal(packageManager(join(project, 'src', 'deep'), {}), manager);
      assert.equal(packageManager(project, { npm_config_user_agent: 'deno/2 npm/?' }), manager);
    }
  });

  it('is else the one that started this process, or npm', () => {
    const agent = (npm_config_user_agent: string) => packageManager(base, { npm_config_user_agent });
    assert.equal(agent('pnpm/10.2.0 npm/? node/v22.1.0 linux x64'), 'pnpm');
    assert.equal(agent('bun/1.2 npm/? node/v22.1.0'), 'bun');
    assert.equal(agent('other/1.0'), 'npm');
    assert.equal(packageManager(base, {}), 'npm');
  });

  it('has a command of its own to add packages', () => {
    const commands = (['npm', 'pnpm', 'yarn', 'bun'] as const).map((manager) =>
      installCommand(manager, ['a@1', 'b@1']),
    );
    assert.deepEqual(commands, [
      'npm install --save-optional --include=optional a@1 b@1',
      'pnpm add --save-optional a@1 b@1',
      'yarn add --optional a@1 b@1',
      'bun add --optional a@1 b@1',
    ]);
  });
});
