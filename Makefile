# `make` lists the targets. Everything but help and clean needs root, or what
# scripts/setup installs, and Go.

# A root shell without a login may lack these.
export PATH := $(PATH):/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

# Built templates are kept here, for all tests and the demo.
CACHE ?= $(CURDIR)/.cache
export BULKHEAD_CACHE := $(CACHE)
export BULKHEAD_TEST_CACHE := $(CACHE)

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"

.DEFAULT_GOAL := help
.PHONY: help setup build install test demo bench screenshots attack-report lint generate clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install the Debian packages that are missing
	@scripts/setup

build: ## build bin/bulkhead and bin/bulkhead-guest
	@mkdir -p bin
	$(GOBUILD) -o bin/ ./cmd/...

# Tests look at the host, which the test cache knows nothing of: -count=1.
# Two packages at a time, as each microVM takes a core; but attacks on a
# neighbour's share are measured on a host that does nothing else.
GOTEST := go test -count=1 -p 2 -timeout 75m
test: setup build ## run every test, those on real microVMs included
	@$(GOTEST) $$(go list ./... | grep -v /test/adversary); others=$$?; \
		$(GOTEST) ./test/adversary && exit $$others

install: build ## install the programs and units for systemd; DESTDIR= is for packages
	install -D -m 755 -t $(DESTDIR)/usr/local/bin bin/bulkhead bin/bulkhead-guest
	install -D -m 644 -t $(DESTDIR)/etc/systemd/system init/bulkhead.service init/bulkhead-sleep.service

demo: setup build ## break a machine as root and roll it back, every step shown
	@scripts/demo

# In the place of its shell, so that what ends make ends it too (go run would
# leave it behind); its guard then removes what it has made.
bench: setup build ## measure, next to the same thing by hand with the bare VMM; ROWS="load" for some
	@go build -o bin/bench ./test/bench && exec bin/bench $(ROWS)

screenshots: setup build ## look at the console and write docs/images
	@mkdir -p docs/images
	BULKHEAD_SCREENSHOTS=$(CURDIR)/docs/images go test -count=1 -run 'TestOperatorUndoes$$' ./test/e2e/console

attack-report: setup ## try to get out of the jail and write docs/attack-report.md
	@go run ./test/attack-report > docs/attack-report.md.new && mv docs/attack-report.md.new docs/attack-report.md

lint: ## gofmt, go vet and staticcheck
	@unformatted=$$(gofmt -l client cmd internal proto test) && \
		if [ -n "$$unformatted" ]; then echo "gofmt -w" $$unformatted; exit 1; fi
	go vet ./...
	go tool staticcheck ./...

generate: ## write the Go code of proto/ and the page of web/ anew
	@scripts/setup protobuf-compiler
	protoc --plugin="$$(go tool -n protoc-gen-go)" --plugin="$$(go tool -n protoc-gen-connect-go)" \
		--go_out=. --go_opt=module=bulkhead --connect-go_out=. --connect-go_opt=module=bulkhead proto/*/*.proto
	cd web && npm ci --no-audit --no-fund && npm run build

clean: ## remove what the other targets made
	rm -rf bin $(CACHE)
