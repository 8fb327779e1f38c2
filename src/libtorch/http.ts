/** Requests over the network with retries, and errors that say what to do. */
import { setTimeout as sleep } from 'node:timers/promises';
import { LibTorchSetupError } from './errors';

/** How patient requests are. */
export interface HttpOptions {
  /** How often a request is tried again after a fault that may pass. Default: 5. */
  retries?: number;
  /** The wait before the first new try, in seconds; it doubles each time. Default: 0.5. */
  backoffSeconds?: number;
  /** How long nothing may arrive, in seconds. Default: 60. */
  idleSeconds?: number;
  /** The file of certificates that pip is told to trust, for the advice when a certificate is refused. */
  certificates?: string;
  env?: NodeJS.ProcessEnv;
}

/** A request that failed for good. */
export class HttpError extends LibTorchSetupError {
  /** The server's status; undefined when there was no answer. */
  readonly status: number | undefined;

  constructor(message: string, status?: number, cause?: unknown) {
    super(message, { code: 'LIBTORCH_DOWNLOAD', cause });
    this.status = status;
  }
}

/** An open answer; its body has not been read. */
export interface HttpAnswer {
  response: Response;
  /** To be told when bytes arrive, and to be stopped at the end. */
  idle: IdleTimer;
}

/**
 * Sends one request and waits for the head of the answer. Redirects are followed. A user and a password in the address are sent to that
 * server alone.
 *
 * @throws HttpError on any status but 200, 206 and 416
 */
export async function openUrl(
  address: string,
  headers: Readonly<Record<string, string>>,
  options: HttpOptions,
): Promise<HttpAnswer> {
  const url = new URL(address);
  const sent: Record<string, string> = { ...headers };
  if (url.username !== '') {
    const user = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
    sent.authorization = `Basic ${Buffer.from(user).toString('base64')}`;
  }
  url.username = url.password = '';
  const idle = new IdleTimer((options.idleSeconds ?? 60) * 1000);
  let response: Response;
  try {
    response = await fetch(url, { headers: sent, signal: idle.signal });
  } catch (error) {
    idle.stop();
    throw connectionError(address, error, options);
  }
  if (response.status === 200 || response.status === 206 || response.status === 416) return { response, idle };
  idle.stop();
  await response.body?.cancel().catch(() => undefined);
  throw statusError(address, response.status);
}

/** Reads a small document, trying again where that may help. */
export async function readUrl(
  address: string,
  headers: Readonly<Record<string, string>>,
  options: HttpOptions,
): Promise<{ status: number; headers: Headers; body: Buffer; url: string }> {
  return withRetries(options, async () => {
    const { response, idle } = await openUrl(address, headers, options);
    try {
      const chunks: Uint8Array[] = [];
      for await (const chunk of response.body ?? []) {
        chunks.push(chunk as Uint8Array);
        idle.touch();
      }
      // Where a redirect has led, for links that are relative to it.
      const url = response.url === '' ? address : withCredentialsOf(address, response.url);
      return { status: response.status, headers: response.headers, body: Buffer.concat(chunks), url };
    } catch (error) {
      throw connectionError(address, error, options);
    } finally {
      idle.stop();
    }
  });
}

/** Runs `work` again after faults that may pass, with longer and longer waits. */
export async function withRetries<T>(options: HttpOptions, work: () => Promise<T>): Promise<T> {
  const { retries = 5 } = options;
  for (let failures = 0; ;) {
    try {
      return await work();
    } catch (error) {
      if (!mayPass(error) || failures >= retries) throw error;
      await backOff(failures++, options);
    }
  }
}

/** Waits before try number `failures + 1`. */
export async function backOff(failures: number, { backoffSeconds = 0.5 }: HttpOptions): Promise<void> {
  await sleep(Math.min(backoffSeconds * 2 ** failures, 30) * 1000);
}

/** Whether a fault may be gone the next time: no answer, or one that says that the server is busy. */
export function mayPass(error: unknown): boolean {
  if (!(error instanceof HttpError)) return false;
  if (error.status === undefined) return !isLasting(error.cause);
  return error.status === 408 || error.status === 429 || error.status >= 500;
}

/** Stops a request when nothing arrives for a while. */
export class IdleTimer {
  private readonly controller = new AbortController();
  private timer: NodeJS.Timeout;

  constructor(private readonly milliseconds: number) {
    this.timer = this.start();
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** Bytes have arrived. */
  touch(): void {
    this.timer.refresh();
  }

  stop(): void {
    clearTimeout(this.timer);
  }

  private start(): NodeJS.Timeout {
    return setTimeout(
      () => this.controller.abort(new Error(`nothing arrived for ${this.milliseconds / 1000} s`)),
      this.milliseconds,
    );
  }
}

/** An address as it may be shown: without a password. */
export function publicAddress(address: string): string {
  return address.replace(/^(\w+:\/\/)[^/@]*@/, '$1');
}

/** Gives an address the user and the password of another on the same server. */
export function withCredentialsOf(known: string, address: string): string {
  const from = new URL(known);
  const to = new URL(address);
  if (from.username !== '' && to.username === '' && from.host === to.host && from.protocol === to.protocol) {
    to.username = from.username;
    to.password = from.password;
  }
  return to.href;
}

/** The code of the fault under fetch's own error, which only says that it failed. */
function faultCode(error: unknown): string {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code } = at as NodeJS.ErrnoException;
    if (typeof code === 'string') return code;
  }
  return '';
}

const certificateFaults = /CERT|SELF_SIGNED|UNABLE_TO_(GET_ISSUER|VERIFY)/;

/** Faults that no new try mends. */
function isLasting(cause: unknown): boolean {
  const code = faultCode(cause);
  return code === 'ENOTFOUND' || certificateFaults.test(code) || /^ERR_INVALID_/.test(code);
}

/** The error for a request without an answer, or one whose answer broke off. */
export function connectionError(address: string, error: unknown, options: HttpOptions): HttpError {
  if (error instanceof HttpError) return error;
  const { env = process.env, certificates } = options;
  const code = faultCode(error);
  const inner = error instanceof Error && error.cause instanceof Error ? error.cause : (error as Error);
  const host = new URL(address).host;
  let reason = inner.message || code;
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') reason = `the host ${host} was not found; is there a network?`;
  else if (code === 'ECONNREFUSED') reason = `${host} refused the connection`;
  else if (certificateFaults.test(code)) {
    reason += `; name the file of certificates that this network needs: NODE_EXTRA_CA_CERTS=${certificates ?? '<file>'}`;
  }
  const proxy = ['HTTPS_PROXY', 'https_proxy', 'HTTP_PROXY', 'http_proxy'].find((name) => env[name]);
  if (proxy !== undefined && env.NODE_USE_ENV_PROXY !== '1') {
    reason += ` (${proxy} is set, but Node.js minds it only with NODE_USE_ENV_PROXY=1, from Node.js 22.21 and 24 on)`;
  }
  return new HttpError(`${publicAddress(address)} could not be read: ${reason}`, undefined, error);
}

function statusError(address: string, status: number): HttpError {
  const meanings: Record<number, string> = {
    401: 'it wants a user and a password: put them into the address, https://<user>:<password>@…',
    403: 'it refuses access',
    404: 'there is no such page',
    407: 'the proxy wants a user and a password',
    429: 'it is asked too often',
  };
  const meaning = meanings[status] ?? (status >= 500 ? 'the server has a fault' : 'it refuses the request');
  return new HttpError(`${publicAddress(address)} answered ${status}: ${meaning}`, status);
}
