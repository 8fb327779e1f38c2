import assert from 'node:assert/strict';
import { join } from 'node:path';
import { defaultIndexUrl } from '../../src/libtorch/addresses';
import { packageSources, type SourceOptions } from '../../src/libtorch/pip-config';
import { temporaryFolder, writeFiles } from './fakes';

describe('the places that wheels come from', () => {
  const base = temporaryFolder();
  // pip's shared files of the real machine are kept out: the folder in XDG_CONFIG_DIRS is ours, and macOS has no file in /etc.
  const clean = { HOME: join(base, 'home'), XDG_CONFIG_DIRS: join(base, 'etc') };
  const sources = (env: NodeJS.ProcessEnv, more: SourceOptions = {}) =>
    packageSources({ env: { ...clean, ...env }, platform: 'darwin', ...more });

  it("are Python's public index without any setting", () => {
    assert.deepEqual(sources({}), { indexUrls: [defaultIndexUrl], findLinks: [], mayUsePytorchIndex: true });
  });

  it('come from the environment', () => {
    assert.deepEqual(
      sources({
        PIP_INDEX_URL: 'https://a.invalid/simple',
        PIP_EXTRA_INDEX_URL: 'https://b.invalid/simple  https://c.invalid/simple',
        PIP_FIND_LINKS: '/wheels',
        PIP_CERT: '/certs.pem',
      }),
      {
        indexUrls: ['https://a.invalid/simple', 'https://b.invalid/simple', 'https://c.invalid/simple'],
        findLinks: ['/wheels'],
        mayUsePytorchIndex: true,
        certificates: '/certs.pem',
      },
    );
    assert.deepEqual(sources({ PIP_NO_INDEX: '1', PIP_INDEX_URL: 'https://a.invalid' }), {
      indexUrls: [],
      findLinks: [],
      mayUsePytorchIndex: false,
    });
  });

  it('come from files: the nearer goes before the farther, sections for downloads before the general one', () => {
    const home = join(base, 'files');
    writeFiles(home, {
      '.pip/pip.conf': '[global]\nindex-url = https://old.invalid/simple\nfind-links: /old\n',
      '.config/pip/pip.conf': [
        '; a comment',
        '[global]',
        'index_url = https://user.invalid/simple',
        'extra-index-url =',
        '    https://b.invalid/simple',
        '    # not this',
        '    https://c.invalid/simple',
        '[freeze]',
        'index-url = https://freeze.invalid',
        '[Install]',
        'no-index = false',
        'cert = /install.pem',
      ].join('\r\n'),
      'venv/pip.conf': '[download]\nfind-links = /venv\n',
      'named.conf': '[global]\nindex-url = https://named.invalid/simple\n',
    });
    assert.deepEqual(sources({ HOME: home }), {
      indexUrls: ['https://user.invalid/simple', 'https://b.invalid/simple', 'https://c.invalid/simple'],
      findLinks: ['/old'],
      mayUsePytorchIndex: true,
      certificates: '/install.pem',
    });
    assert.deepEqual(sources({ HOME: home, VIRTUAL_ENV: join(home, 'venv') }).findLinks, ['/venv']);
    const named = { HOME: home, PIP_CONFIG_FILE: join(home, 'named.conf') };
    assert.equal(sources(named).indexUrls[0], 'https://named.invalid/simple');
    assert.equal(sources({ ...named, PIP_INDEX_URL: 'https://env.invalid' }).indexUrls[0], 'https://env.invalid');
    assert.deepEqual(sources({ HOME: home, PIP_CONFIG_FILE: '/dev/null' }).indexUrls, [defaultIndexUrl]);
  });

  it('are found where each system keeps such files', () => {
    const text = (url: string) => `[global]\nindex-url = ${url}\n`;
    writeFiles(base, {
      'etc/pip/pip.conf': text('https://shared.invalid'),
      'mac/Library/Application Support/pip/pip.conf': text('https://mac.invalid'),
      'windows/pip/pip.ini': text('https://windows.invalid'),
      'data/pip/pip.ini': text('https://all.invalid'),
    });
    const first = (env: NodeJS.ProcessEnv, platform: NodeJS.Platform) =>
      packageSources({ env: { ...clean, ...env }, platform }).indexUrls[0];
    assert.equal(first({ HOME: join(base, 'mac') }, 'darwin'), 'https://mac.invalid');
    assert.equal(first({ ProgramData: join(base, 'data') }, 'win32'), 'https://all.invalid');
    const windows = { ProgramData: join(base, 'data'), APPDATA: join(base, 'windows') };
    assert.equal(first(windows, 'win32'), 'https://windows.invalid');
  });

  it('are what the command line names', () => {
    const env = { PIP_INDEX_URL: 'https://a.invalid', PIP_FIND_LINKS: '/links' };
    assert.deepEqual(sources(env, { indexUrl: 'https://named.invalid' }), {
      indexUrls: ['https://named.invalid'],
      findLinks: ['/links'],
      mayUsePytorchIndex: false,
    });
    assert.deepEqual(sources(env, { wheels: 'here' }), {
      indexUrls: [],
      findLinks: ['here'],
      mayUsePytorchIndex: false,
    });
  });
});
