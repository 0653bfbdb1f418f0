#!/usr/bin/env bash
# Makes testdata/msgpackr.json again and compares: the core's tests hold the server
# against it. Needs `npm ci` here before. With -update the file is written.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
file=$here/../../testdata/msgpackr.json

[ -d "$here/node_modules" ] || { echo "run npm ci in $here first" >&2; exit 1; }

if [ "${1:-}" = -update ]; then
	node "$here/vectors.mjs" >"$file"
else
	node "$here/vectors.mjs" | diff -u "$file" - | cut -c 1-200
	echo "msgpackr packs as testdata/msgpackr.json says"
fi
