#!/bin/sh
# Install the peers that bench/speed.py runs beside headrace, in an environment of their own:
# SCALE-Sim 3 does not work with the newest NumPy, and ZigZag does not declare six.
set -eu
cd "$(dirname "$0")/.."
[ -f .venv-peers/ready ] && exit 0
"${PYTHON:-python3}" -m venv .venv-peers
.venv-peers/bin/pip --disable-pip-version-check --quiet install \
    'scalesim==3.0.0' 'numpy<2.4' 'zigzag-dse==3.9.1' six
touch .venv-peers/ready
