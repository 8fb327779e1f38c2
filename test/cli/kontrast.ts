/** Runs the command from its sources, as bin/kontrast.js does from the compiled ones. */
import { main } from '../../src/cli';

void main(process.argv).then((code) => {
  process.exitCode = code;
});
