# twill's development tasks. `make` alone lists them.

GO       ?= go
FUZZTIME ?= 5s
FAULT_HOLD ?= 3s
# The linter is a tool, not a dependency of the daemon: it stays out of go.mod.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Debian keeps iptables where an ordinary user's PATH does not look.
export PATH := $(PATH):/usr/sbin:/sbin

.DEFAULT_GOAL := help
.PHONY: help build generate demo test test-faults test-attack soak race-load system-test lint fuzz bench bench-scale packages test-packages test-page packages-for-tests

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build ./twill
	$(GO) build -o twill .

generate: ## write docs/reference.md from the commands, docs/json.md from the types
	$(GO) generate . ./internal/api

demo: ## show twill on three hosts made of network namespaces
	$(GO) run . demo

test: packages-for-tests ## run all tests, with the race detector
	$(GO) test -race -p 1 -timeout 15m ./... # one package at a time: they measure and wait for real daemons

test-faults: packages-for-tests ## every fault that can happen to etcd, each for FAULT_HOLD (3s); prints a table
	cd internal/faults && $(GO) test -count=1 -timeout 30m -all -hold $(FAULT_HOLD)

test-attack: packages-for-tests ## forged packets, a world that changes around real daemons, and faults that twill check has to name, four minutes; ATTACK_SEED, ATTACK_PACKETS
	$(GO) test -race -tags attack -run '^Test(Forged|World|Diagnose)' -timeout 10m -v .

system-test: ## machines with real systemd, etcd and Docker, and the DEB, three minutes; needs root and a Debian mirror
	@.ci/packages-for-tests system
	$(GO) test -tags systemtest -count=1 -timeout 20m -v ./internal/systemtest

soak: packages-for-tests ## full load while leases churn, a daemon restarts and packets are lost; SOAK=20m, 2m otherwise
	SOAK=$(SOAK) $(GO) test -tags attack -run '^TestSoak' -timeout 24h -v .

race-load: packages-for-tests ## a minute of the soak's full load with the race detector in test and daemons
	SOAK=1m $(GO) test -race -tags attack -run '^TestSoak' -timeout 10m -v .

lint: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	 if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet -tags attack,systemtest,browser ./...
	$(GO) run $(STATICCHECK) -tags attack,systemtest,browser ./...

fuzz: ## run each fuzz target for FUZZTIME (5s)
	@.ci/fuzz $(FUZZTIME)

bench: ## measure twill beside its peers, a quarter of an hour; BENCH="--quick" and other flags
	$(GO) run ./bench $(BENCH)

bench-scale: ## measure networks of 10,000 leases and of 1,000 hosts, three minutes; SCALE="--nodes 100" and other flags
	$(GO) run ./bench/scale $(SCALE)

packages: ## build DEBs and RPMs into dist/
	@packaging/build

test-packages: packages-for-tests ## build, check, install, upgrade and remove the packages, three minutes; as root
	@.ci/packages-for-test-packages
	$(GO) test -tags packages -count=1 -timeout 15m ./packaging

test-page: ## the status page in a browser, a minute; IMAGES=docs/images writes the documentation's pictures
	@.ci/packages-for-test-page
	$(GO) test -tags browser -count=1 -timeout 10m ./internal/web $(if $(IMAGES),-run TestScreenshots -images $(abspath $(IMAGES)))

packages-for-tests: ## install the OS packages that the tests need
	@.ci/packages-for-tests
