import assert from 'node:assert/strict';
import {
  connectionError,
  HttpError,
  openUrl,
  publicAddress,
  readUrl,
  withCredentialsOf,
  withRetries,
} from '../../src/libtorch/http';
import { deadAddress, FakeIndex } from './fake-index';

const quick = { backoffSeconds: 0.001, idleSeconds: 5, env: {} };

describe('requests', () => {
  const index = new FakeIndex();
  before(() => index.add('a-1.0-py3-none-any.whl', []));

  it('follow redirects', async () => {
    const { body, url } = await readUrl(`${index.origin}/moved/a-1.0-py3-none-any.whl`, {}, quick);
    assert.deepEqual(body, index.wheels.get('a-1.0-py3-none-any.whl'));
    assert.equal(url, `${index.origin}/files/a-1.0-py3-none-any.whl`);
  });

  it('are sent again after faults that may pass, and not after others', async () => {
    let left = 2;
    index.behaviour.status = () => (left-- > 0 ? 503 : undefined);
    await readUrl(`${index.url}/a/`, {}, quick);
    assert.equal(index.requests.length, 3);

    index.requests.length = 0;
    index.behaviour.status = () => 500;
    await assert.rejects(readUrl(`${index.url}/a/`, {}, { ...quick, retries: 2 }), {
      status: 500,
      code: 'LIBTORCH_DOWNLOAD',
    });
    assert.equal(index.requests.length, 3);

    for (const [status, message] of [
      [401, /answered 401: it wants a user and a password/],
      [403, /answered 403: it refuses access/],
      [404, /answered 404: there is no such page/],
      [418, /answered 418: it refuses the request/],
    ] as const) {
      index.requests.length = 0;
      index.behaviour.status = () => status;
      await assert.rejects(readUrl(`${index.url}/a/`, {}, quick), message);
      assert.equal(index.requests.length, 1);
    }
  });

  it('carry the user and the password of the address, and messages do not', async () => {
    index.behaviour.authorization = `Basic ${Buffer.from('me:p@ss').toString('base64')}`;
    const address = `${index.url}/a/`.replace('//', '//me:p%40ss@');
    const { url } = await readUrl(address, {}, quick);
    assert.equal(url, address);
    await assert.rejects(readUrl(address.replace('p%40ss', 'wrong'), {}, quick), (error: Error) => {
      assert.doesNotMatch(error.message, /wrong|me:/);
      return true;
    });
    assert.equal(publicAddress('https://me:p@b.invalid/a@b'), 'https://b.invalid/a@b');
    assert.equal(withCredentialsOf('https://me:p@b.invalid/x', 'https://b.invalid/y'), 'https://me:p@b.invalid/y');
    assert.equal(withCredentialsOf('https://me:p@b.invalid/x', 'https://c.invalid/y'), 'https://c.invalid/y');
    assert.equal(withCredentialsOf('https://me:p@b.invalid/x', 'http://b.invalid/y'), 'http://b.invalid/y');
  });

  it('end when nothing arrives for a while', async () => {
    index.behaviour.stallAfter = () => 10;
    const address = `${index.origin}/files/a-1.0-py3-none-any.whl`;
    await assert.rejects(
      readUrl(address, {}, { ...quick, retries: 0, idleSeconds: 0.1 }),
      /nothing arrived for 0\.1 s/,
    );
  });

  it('say that nobody answers', async () => {
    const dead = await deadAddress();
    await assert.rejects(openUrl(dead, {}, quick), {
      message: `${dead} could not be read: ${dead.slice(7)} refused the connection`,
    });
  });

  it('say what helps against faults of the network', async () => {
    const error = (code: string, options = {}) =>
      connectionError(
        'https://b.invalid/a',
        new TypeError('fetch failed', { cause: Object.assign(new Error(`inner ${code}`), { code }) }),
        { env: {}, ...options },
      );
    assert.match(error('ENOTFOUND').message, /the host b\.invalid was not found; is there a network\?$/);
    assert.match(error('SELF_SIGNED_CERT_IN_CHAIN').message, /NODE_EXTRA_CA_CERTS=<file>/);
    const certificates = '/etc/certs.pem';
    assert.match(
      error('UNABLE_TO_GET_ISSUER_CERT_LOCALLY', { certificates }).message,
      /NODE_EXTRA_CA_CERTS=\/etc\/certs\.pem/,
    );
    const env = { HTTPS_PROXY: 'http://proxy.invalid' };
    assert.match(error('ECONNRESET', { env }).message, /inner ECONNRESET \(HTTPS_PROXY is set, .*NODE_USE_ENV_PROXY=1/);
    assert.doesNotMatch(error('ECONNRESET', { env: { ...env, NODE_USE_ENV_PROXY: '1' } }).message, /PROXY/);

    // A name that does not exist and a certificate that is not trusted stay so.
    for (const [code, tries] of [
      ['ENOTFOUND', 1],
      ['CERT_HAS_EXPIRED', 1],
      ['ECONNRESET', 3],
    ] as const) {
      let count = 0;
      const work = () => {
        count++;
        return Promise.reject(error(code));
      };
      await assert.rejects(withRetries({ ...quick, retries: 2 }, work), HttpError);
      assert.equal(count, tries, code);
    }
  });
});
