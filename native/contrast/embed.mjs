// Writes the text of the kernels as a C++ header: node embed.mjs <header to write>. The addon carries it, since kernels are
// compiled where they run.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const read = (name) => readFileSync(join(import.meta.dirname ?? dirname(new URL(import.meta.url).pathname), name), 'utf8');
const [target] = process.argv.slice(2);
const shared = read('kernels.h').replace('#pragma once\n', '');
const text = read('kernels.cu').replace('#include "kernels.h"\n', () => shared);
// Compilers bound the length of one literal; neighbours are one.
const pieces = text.match(/(.*\n){1,100}/g).map((piece) => `R"kernels(${piece})kernels"`);
mkdirSync(dirname(target), { recursive: true });
writeFileSync(target, `constexpr char kKernels[] =\n${pieces.join('\n')};\n`);
