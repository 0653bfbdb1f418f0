#!/usr/bin/env bash
# Starts examples/cluster, connects the published Phoenix client to one node and a
# client of realtime.v1 to another, and presses the buttons of its page in two tabs of
# Chromium. Needs `npm ci` here before, and redis-server. Pictures go to shots/.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

[ -d "$here/node_modules" ] || { echo "run npm ci in $here first" >&2; exit 1; }
if ! command -v redis-server >/dev/null; then
	[ "${CI:-}" = true ] && { echo "FAILED: redis-server is not installed" >&2; exit 1; }
	echo "SKIPPED: the cluster, because redis-server is not installed"
	exit
fi

work=$(mktemp -d)
server=
stop() {
	[ -z "$server" ] && return
	kill -TERM "$server" 2>/dev/null || true
	local status=0
	wait "$server" || status=$?
	server=
	[ "$status" -eq 0 ] || { echo "cluster ended with status $status"; tail -20 "$work/log"; return 1; }
}
trap 'stop || true; rm -rf "$work"' EXIT

(cd "$here/../../examples" && go build -buildvcs=false -o "$work/cluster" ./cluster)

# start FLAG...: runs the cluster on a free port; base becomes its address.
start() {
	"$work/cluster" -addr 127.0.0.1:0 -ttl 3s "$@" >"$work/out" 2>"$work/log" &
	server=$!
	for _ in $(seq 300); do
		base=$(sed -n 's/^listening on //p' "$work/out")
		[ -n "$base" ] && return
		kill -0 "$server" 2>/dev/null || break
		sleep 0.1
	done
	echo "cluster did not start:" >&2
	tail -20 "$work/log" >&2
	return 1
}

echo "two nodes: Phoenix on one, realtime.v1 on the other, a document on both"
start -nodes 2
node "$here/nodes.mjs" "$base"
stop

chromium=${CHROMIUM:-$(command -v chromium || true)}
if [ -n "$chromium" ]; then
	echo "the page of examples/cluster in two tabs of Chromium"
	start
	CHROMIUM=$chromium node "$here/shot.mjs" "$base" "$here/shots"
	stop
elif [ "${CI:-}" = true ]; then
	echo "FAILED: chromium is not installed" >&2
	exit 1
else
	echo "SKIPPED: the page, because chromium is not installed"
fi
