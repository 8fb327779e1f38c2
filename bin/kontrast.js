#!/usr/bin/env node
'use strict';

const { existsSync } = require('node:fs');
const { join } = require('node:path');

const cli = join(__dirname, '..', 'dist', 'cli', 'index.js');
if (existsSync(cli)) {
  require(cli)
    .main(process.argv)
    .then((code) => {
      process.exitCode = code;
    });
} else {
  console.error('kontrast is not built yet: run `npm run setup` in its folder.');
  process.exitCode = 1;
}
