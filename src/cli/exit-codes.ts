/** What the `kontrast` command returns to the shell. */
export const exitCodes = {
  /** All went well. */
  ok: 0,
  /** A run failed after it had begun: the loss became NaN, the disk is full, … */
  failed: 1,
  /** Bad input, found before anything was changed: an unknown option, a missing file, a checkpoint of another architecture, … */
  usage: 2,
  /** Interrupted by Ctrl-C; the state was saved. */
  interrupted: 130,
  /** Ended by SIGTERM; the state was saved. */
  terminated: 143,
} as const;
