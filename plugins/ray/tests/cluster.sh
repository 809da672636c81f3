#!/usr/bin/env bash
# What the tests of this plugin need: Ray, in an environment of its own beside them. It is not started.
set -euo pipefail
there="$(dirname "$0")/../../../.tox/ray"
[ -x "$there/bin/ray" ] && exit 0
"${PYTHON:-python3}" -m venv "$there"
"$there/bin/python" -m pip install -q "ray[default]>=2.52"
