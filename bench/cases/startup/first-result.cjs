/* Loads the compiled package, computes one small sum, and says how long that took. */
const start = process.hrtime.bigint();
const { libtorchBuild, torch } = require('kontrast');
const result = torch
  .tensor([1, 2, 3, 4])
  .add(torch.tensor([4, 3, 2, 1]))
  .sum()
  .itemSync();
const seconds = Number(process.hrtime.bigint() - start) / 1e9;

const { readFileSync } = require('node:fs');
let peak;
try {
  peak = Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
} catch {
  peak = undefined; // only Linux tells
}
const versions = { node: process.versions.node, libtorch: libtorchBuild().version };
process.stdout.write(JSON.stringify({ seconds, result, peakBytes: peak, versions }));
