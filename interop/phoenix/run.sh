#!/usr/bin/env bash
# Starts examples/phoenix and has two tabs of Chromium use its page. Needs `npm ci`
# here before. Pictures go to shots/. The clients without a page are run by the tests
# of examples/phoenix.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

[ -d "$here/node_modules" ] || { echo "run npm ci in $here first" >&2; exit 1; }
chromium=${CHROMIUM:-$(command -v chromium || true)}
if [ -z "$chromium" ]; then
	[ "${CI:-}" = true ] && { echo "FAILED: chromium is not installed" >&2; exit 1; }
	echo "SKIPPED: the page, because chromium is not installed"
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
	[ "$status" -eq 0 ] || { echo "phoenix ended with status $status"; tail -20 "$work/log"; return 1; }
}
trap 'stop || true; rm -rf "$work"' EXIT

(cd "$here/../../examples" && go build -buildvcs=false -o "$work/phoenix" ./phoenix)
"$work/phoenix" -addr 127.0.0.1:0 >"$work/out" 2>"$work/log" &
server=$!
base=
for _ in $(seq 100); do
	base=$(sed -n 's/^listening on //p' "$work/out")
	[ -n "$base" ] && break
	kill -0 "$server" 2>/dev/null || break
	sleep 0.1
done
[ -n "$base" ] || { echo "phoenix did not start:" >&2; tail -20 "$work/log" >&2; exit 1; }

echo "the page of examples/phoenix in two tabs of Chromium"
CHROMIUM=$chromium node "$here/shot.mjs" "$base" "$here/shots"
stop
