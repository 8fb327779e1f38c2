"""Answers the harness's commands (see harness/adapter.ts) for a peer written in Python."""

import json
import os
import sys
import traceback


def serve(prepare, run):
    """prepare(options) -> versions by name; run(options) -> {"seconds", "items", "result"}."""
    # Standard output carries the answers: keep it for them, and send what anything else prints to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        command, options = request["command"], request.get("options", {})
        if command == "close":
            break
        try:
            if command == "prepare":
                reply = {"versions": prepare(options)}
            elif command == "run":
                reply = run(options)
            else:
                reply = {"error": f"unknown command {command}"}
            # NaN is not JSON; as an error it names itself.
            text = json.dumps(reply, allow_nan=False)
        except Exception:
            text = json.dumps({"error": traceback.format_exc()})
        answers.write(text + "\n")
        answers.flush()
