#!/usr/bin/env bash
# Checks the types of the driver, then has containers of the Fluid Framework use
# examples/document, which keeps its documents on disk. Needs `npm ci` here before.
# The tests of examples/document do the same with documents in memory.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"

[ -d node_modules ] || { echo "run npm ci in $here first" >&2; exit 1; }
node_modules/.bin/tsc

work=$(mktemp -d)
server=
stop() {
	[ -z "$server" ] && return
	kill -TERM "$server" 2>/dev/null || true
	local status=0
	wait "$server" || status=$?
	server=
	[ "$status" -eq 0 ] || { echo "document ended with status $status"; tail -20 "$work/log"; return 1; }
}
trap 'stop || true; rm -rf "$work"' EXIT

(cd ../../examples && go build -buildvcs=false -o "$work/document" ./document)
mkdir "$work/data"
"$work/document" -addr 127.0.0.1:0 -data "$work/data" >"$work/out" 2>"$work/log" &
server=$!
base=
for _ in $(seq 100); do
	base=$(sed -n 's/^listening on //p' "$work/out")
	[ -n "$base" ] && break
	kill -0 "$server" 2>/dev/null || break
	sleep 0.1
done
[ -n "$base" ] || { echo "document did not start:" >&2; tail -20 "$work/log" >&2; exit 1; }

echo "containers of the Fluid Framework against examples/document"
node run.mjs "$base"
stop
