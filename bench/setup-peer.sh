#!/bin/sh
# Installs the Python peer (PyTorch, pinned) into bench/.venv, apart from any other Python environment.
# PYTHON names the interpreter to use (default: python3). pip's own settings and PIP_* variables are honoured.
set -eu
cd "$(dirname "$0")"

"${PYTHON:-python3}" -m venv .venv
.venv/bin/pip install --no-deps -r requirements.txt

if ! .venv/bin/python -W ignore -c 'import torch; torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])'; then
    cat >&2 <<'HELP'
setup-peer: PyTorch was installed but cannot be imported.
The wheel is probably one for CUDA, which needs NVIDIA's packages beside it. Point pip at PyTorch's CPU wheels
with PIP_EXTRA_INDEX_URL (the address is on PyTorch's installation page), remove bench/.venv and run this again.
HELP
    exit 1
fi
.venv/bin/python -W ignore -c 'import platform, torch; print("peer: Python", platform.python_version(), "with PyTorch", torch.__version__)'
