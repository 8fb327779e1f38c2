/// <reference types="node" preserve="true" />
import * as os from 'node:os';
import * as path from 'node:path';

/**
 * The folder of what kontrast can make again: `$KONTRAST_CACHE`, else `$XDG_CACHE_HOME/kontrast`, else
 * `~/.cache/kontrast`. An empty variable counts as unset, and so does a relative `XDG_CACHE_HOME`, as the XDG
 * specification asks.
 */
export function cacheDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  if (environment.KONTRAST_CACHE) return path.resolve(environment.KONTRAST_CACHE);
  const base = environment.XDG_CACHE_HOME;
  if (base && path.isAbsolute(base)) return path.join(base, 'kontrast');
  return path.join(os.homedir(), '.cache', 'kontrast');
}
