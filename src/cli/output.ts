/** Tells the user something that is no result: goes to standard error. */
export function log(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Prints a result: goes to standard output. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
