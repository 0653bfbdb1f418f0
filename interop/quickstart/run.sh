#!/usr/bin/env bash
# Starts examples/quickstart and drives it with foreign clients: Node's ws, and
# Chromium if it is there. Needs `npm ci` here before. Pictures go to shots/.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
examples=$here/../../examples

[ -d "$here/node_modules" ] || { echo "run npm ci in $here first" >&2; exit 1; }

work=$(mktemp -d)
server=
stop() {
	[ -z "$server" ] && return
	kill -TERM "$server" 2>/dev/null || true
	local status=0
	wait "$server" || status=$?
	server=
	[ "$status" -eq 0 ] || { echo "quickstart ended with status $status"; tail -20 "$work/log"; return 1; }
}
trap 'stop || true; rm -rf "$work"' EXIT

(cd "$examples" && go build -buildvcs=false -o "$work/quickstart" ./quickstart)

# start FLAG...: runs the server on a free port; base becomes its address.
start() {
	"$work/quickstart" -addr 127.0.0.1:0 "$@" >"$work/out" 2>"$work/log" &
	server=$!
	for _ in $(seq 100); do
		base=$(sed -n 's/^listening on //p' "$work/out")
		[ -n "$base" ] && return
		kill -0 "$server" 2>/dev/null || break
		sleep 0.1
	done
	echo "quickstart did not start:" >&2
	tail -20 "$work/log" >&2
	return 1
}

echo "quickstart, as it comes"
start
node "$here/run.mjs" "$base"
stop

echo "quickstart -auth-code 1008 -rate 20"
start -auth-code 1008 -rate 20
node "$here/run.mjs" "$base" --auth-code 1008
stop

chromium=${CHROMIUM:-$(command -v chromium || true)}
if [ -n "$chromium" ]; then
	echo "the page in two tabs of Chromium"
	start
	CHROMIUM=$chromium node "$here/shot.mjs" "$base" "$here/shots"
	stop
elif [ "${CI:-}" = true ]; then
	echo "FAILED: chromium is not installed" >&2
	exit 1
else
	echo "SKIPPED: the page, because chromium is not installed"
fi
