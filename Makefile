# `make check` is what a change has to pass. `work` means every package of every
# module in go.work. Tools run at a pinned version and need no installation.

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.8.0

FUZZTIME   ?= 3s
FLOOR      ?= 85
BENCHFLAGS ?= -benchtime 100ms

CORE = github.com/seed-58bc6ac1/realtime

.PHONY: check fmt vet staticcheck tidy vuln test fuzz cover bench bench-quick microbench interop

check: fmt vet staticcheck tidy test fuzz

fmt:
	@out=$$(find . -name '*.go' -not -path '*/node_modules/*' -exec gofmt -l {} +); \
	if [ -n "$$out" ]; then echo "not formatted (run gofmt -w):"; echo "$$out"; exit 1; fi

vet:
	go vet work

staticcheck:
	go run $(STATICCHECK) work

# Each module for itself, as its users see it.
tidy:
	@for dir in $$(go list -m -f '{{.Dir}}'); do \
		echo "tidy $$dir"; (cd "$$dir" && GOWORK=off go mod tidy -diff) || exit 1; \
	done

# Exit status 3 means that something we call is vulnerable; any other failure
# means that the database could not be asked, which says nothing about the code.
vuln:
	@tool=$$(mktemp -d) && trap 'rm -rf "$$tool"' EXIT && \
	GOBIN="$$tool" go install $(GOVULNCHECK) && \
	for dir in $$(go list -m -f '{{.Dir}}'); do \
		echo "vuln $$dir"; status=0; (cd "$$dir" && "$$tool/govulncheck" $(VULNFLAGS) ./...) || status=$$?; \
		case $$status in \
		0) ;; \
		3) exit 1 ;; \
		*) echo "SKIPPED: vulnerabilities were NOT checked (status $$status)"; exit 0 ;; \
		esac; \
	done

test:
	go test -race -shuffle=on work

# One build for all targets of a package. A minute of minimising, the default, would
# eat the whole time of a target. A target whose time is over may be reported as
# failed (golang/go#75804, until Go 1.27), with that as the whole report; anything
# else is a failure.
fuzz:
	@built=$$(mktemp -d) && trap 'rm -rf "$$built"' EXIT && cache=$$(go env GOCACHE)/fuzz && \
	go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}' work >"$$built/list" && \
	while read -r pkg dir; do \
		grep -qs '^func Fuzz' "$$dir"/*_test.go || continue; \
		go test -c -fuzz . -o "$$built/test" "$$pkg" || exit 1; \
		targets=$$(cd "$$dir" && "$$built/test" -test.list '^Fuzz') || exit 1; \
		for target in $$targets; do \
			echo "fuzz $$pkg $$target for $(FUZZTIME)"; \
			(cd "$$dir" && "$$built/test" -test.run '^$$' -test.fuzz "^$$target\$$" -test.fuzztime $(FUZZTIME) \
				-test.fuzzminimizetime 20x -test.fuzzcachedir "$$cache/$$pkg") >"$$built/log" 2>&1 && \
				{ grep '^fuzz: elapsed' "$$built/log" | tail -n 1; continue; }; \
			cat "$$built/log"; \
			[ "$$(sed '1,/^--- FAIL/d' "$$built/log")" = "$$(printf '    context deadline exceeded\nFAIL')" ] || exit 1; \
		done; \
	done <"$$built/list"

# The core package alone: its own tests, its own files. The race detector has its own run.
cover:
	go test -shuffle=on -coverprofile=cover.out $(CORE)
	@go tool cover -func=cover.out | awk -v floor=$(FLOOR) \
		'/^total:/ { sub("%", "", $$3); printf "coverage of the core: %s %% (floor %s %%)\n", $$3, floor; seen = 1; low = $$3 + 0 < floor } \
		END { exit !seen || low }'

# Against the peers, each in processes of its own: see bench/README.md.
bench: bench/socketio/node_modules
	go -C bench run .

# Without the candidates that take long to build.
bench-quick:
	go -C bench run -tags quick . -quick

# The candidate for Node; the others do without it.
bench/socketio/node_modules: bench/socketio/package-lock.json
	@if command -v npm >/dev/null; then cd bench/socketio && npm ci --no-audit --no-fund && touch node_modules || \
		echo "SKIPPED: socket.io: npm ci failed"; \
	else echo "SKIPPED: socket.io: npm is not installed"; fi

# BENCHFLAGS='-count 10' gives what benchstat wants.
microbench:
	go test -run '^$$' -bench . -benchmem $(BENCHFLAGS) work

interop:
	interop/fluid/run.sh
	interop/quickstart/run.sh
	interop/msgpack/run.sh
	interop/phoenix/run.sh
	interop/cluster/run.sh
