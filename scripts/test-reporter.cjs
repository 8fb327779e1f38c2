'use strict';

const { writeFileSync } = require('node:fs');
const { reporters, Runner } = require('mocha');

/** Mocha's own report, and the counts in a file for `scripts/test.mjs`. */
module.exports = class CountingReporter extends reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    runner.once(Runner.constants.EVENT_RUN_END, () => {
      const { passes, failures, pending } = this.stats;
      writeFileSync(
        options.reporterOptions.counts,
        JSON.stringify({ passed: passes, failed: failures, skipped: pending }),
      );
    });
  }
};
