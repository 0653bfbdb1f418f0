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

# A minute of minimising, the default, would eat the whole time of a target.
fuzz:
	@for pkg in $$(go list work); do \
		targets=$$(go test -run '^$$' -list '^Fuzz' "$$pkg" | grep '^Fuzz' || true); \
		for target in $$targets; do \
			echo "fuzz $$pkg $$target for $(FUZZTIME)"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x "$$pkg" || exit 1; \
		done; \
	done

# The core package alone: its own tests, its own files.
cover:
	go test -race -shuffle=on -coverprofile=cover.out $(CORE)
	@go tool cover -func=cover.out | awk -v floor=$(FLOOR) \
		'/^total:/ { sub("%", "", $$3); printf "coverage of the core: %s %% (floor %s %%)\n", $$3, floor; seen = 1; low = $$3 + 0 < floor } \
		END { exit !seen || low }'

# Against the peers, each in processes of its own: see bench/README.md.
bench:
	go -C bench run .

bench-quick:
	go -C bench run . -quick

# BENCHFLAGS='-count 10' gives what benchstat wants.
microbench:
	go test -run '^$$' -bench . -benchmem $(BENCHFLAGS) work

interop:
	interop/quickstart/run.sh
