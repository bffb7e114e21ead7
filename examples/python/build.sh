#!/bin/sh
# Builds this plugin to target/plugins/router-py.wasm at the root of the repository. Installs into ./venv only.
set -eu
cd "$(dirname "$0")"
out=../../target/plugins
mkdir -p "$out"

[ -x venv/bin/pip ] || python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt
venv/bin/python -m unittest
venv/bin/componentize-py --wit-path ../../wit --world router-plugin componentize app --output "$out/router-py.wasm"
