#!/usr/bin/env bash
# Starts examples/document and has two tabs of Chromium share its board. Needs
# `npm ci` here before. Pictures go to shots/.
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
	[ "$status" -eq 0 ] || { echo "document ended with status $status"; tail -20 "$work/log"; return 1; }
}
trap 'stop || true; rm -rf "$work"' EXIT

(cd "$here/../../examples" && go build -buildvcs=false -o "$work/document" ./document)
mkdir "$work/data"

# start FLAG...: runs the server on a free port; base becomes its address.
start() {
	"$work/document" -addr 127.0.0.1:0 "$@" >"$work/out" 2>"$work/log" &
	server=$!
	for _ in $(seq 100); do
		base=$(sed -n 's/^listening on //p' "$work/out")
		[ -n "$base" ] && return
		kill -0 "$server" 2>/dev/null || break
		sleep 0.1
	done
	echo "document did not start:" >&2
	tail -20 "$work/log" >&2
	return 1
}

for place in memory disk; do
	echo "the board of examples/document in two tabs of Chromium, documents in $place"
	flags=()
	[ "$place" = disk ] && flags=(-data "$work/data")
	start "${flags[@]}"
	CHROMIUM=$chromium node "$here/shot.mjs" "$base" "$here/shots"
	stop
done
