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
servers=()
stop() {
	local status=0
	for server in "${servers[@]}"; do
		kill -TERM "$server" 2>/dev/null || true
		wait "$server" || status=$?
	done
	servers=()
	[ "$status" -eq 0 ] || { echo "document ended with status $status"; tail -20 "$work"/*.log; return 1; }
}
trap 'stop || true; rm -rf "$work"' EXIT

(cd ../../examples && go build -buildvcs=false -o "$work/document" ./document)

# start NAME FLAG...: runs the server on a free port; base becomes its address.
start() {
	local name=$1
	shift
	"$work/document" -addr 127.0.0.1:0 "$@" >"$work/$name" 2>"$work/$name.log" &
	servers+=($!)
	await "$name" 's/^listening on //p'
}

# await NAME SCRIPT: base becomes what sed finds in the output.
await() {
	for _ in $(seq 100); do
		base=$(sed -n "$2" "$work/$1" 2>/dev/null) || true
		[ -n "$base" ] && return
		kill -0 "${servers[-1]}" 2>/dev/null || break
		sleep 0.1
	done
	echo "$1 did not start:" >&2
	tail -20 "$work/$1"* >&2
	return 1
}

echo "containers of the Fluid Framework against examples/document"
mkdir "$work/data"
start alone -data "$work/data"
node run.mjs "$base"
stop

if ! command -v redis-server >/dev/null; then
	[ "${CI:-}" = true ] && { echo "FAILED: redis-server is not installed" >&2; exit 1; }
	echo "SKIPPED: two nodes, because redis-server is not installed"
	exit
fi
echo "containers on two nodes of examples/document"
socket=$work/redis.sock
(cd "$work" && exec redis-server --port 0 --unixsocket "$socket" --save "" >"$work/redis") &
servers+=($!)
await redis 's/.*\(Ready to accept connections\|The server is now ready\).*/ready/p'
start first -redis "unix://$socket"
first=$base pid=${servers[-1]}
start second -redis "unix://$socket"
node run.mjs "$first" --other "$base" --pid "$pid"
wait "$pid" 2>/dev/null || true # which the case has killed
servers=("${servers[0]}" "${servers[2]}")
stop
