#!/bin/sh
# Builds this plugin to target/plugins/router-js.wasm at the root of the repository. Installs into ./node_modules only.
set -eu
cd "$(dirname "$0")"
out=../../target/plugins
mkdir -p "$out"

# Not `npm ci`: it insists on lock entries for the native bindings of every other platform.
npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error
npm test --loglevel=error
# Without --backend-qjs-disable-async the component's types would need a host with component-model async.
npx --loglevel=error jco componentize router.js --wit ../../wit --world-name router-plugin \
    --backend quickjs --backend-qjs-disable-async --out "$out/router-js.wasm"
