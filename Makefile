# Targets: build demo test lint integration image bench fuzz soak sabotage official. All need Go alone; integration needs Docker or KAFKA_BROKERS.
GOLANGCI = go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
CHECKLOCKS = gvisor.dev/gvisor/tools/checklocks/cmd/checklocks@v0.0.0-20260905035102-160fafc42237
# The race detector needs a C compiler.
CC_FOUND := $(shell command -v gcc || command -v clang || command -v cc)
RACE := $(if $(CC_FOUND),-race,)

.PHONY: build demo test lint integration bench soak sabotage official fuzz
build:
	CGO_ENABLED=0 go build -trimpath -o bin/segsync ./cmd/segsync

demo: build
	@./bin/segsync demo

test:
	@$(if $(RACE),,echo "no C compiler is found: testing without the race detector")
	go test -timeout 25m $(RACE) ./...

# checklocks holds methods that end in Locked, and what the lock guards, to the lock.
lint:
	$(GOLANGCI) run ./...
	GOBIN=$(CURDIR)/bin go install $(CHECKLOCKS)
	go vet -vettool=$(CURDIR)/bin/checklocks -inferred=false ./...

integration:
	go test -tags integration -count=1 -timeout 30m -v -run Integration ./cmd/segsync

bench:
	go test -run '^$$' -bench . -benchmem ./mapping ./connector/state ./connector/oracle
	go test -tags bench -count=1 -timeout 30m -v -run Bench ./connector/oracle
	go test -tags bench -count=1 -timeout 30m -v -run Bench ./cmd/segsync

FUZZ ?= 30s
fuzz:
	go test -run '^$$' -fuzz FuzzDecode -fuzztime $(FUZZ) ./mapping
	go test -run '^$$' -fuzz FuzzSchema -fuzztime $(FUZZ) ./mapping
	go test -run '^$$' -fuzz FuzzExpression -fuzztime $(FUZZ) ./mapping

# New seeds of the fault matrix; SEED=n go test ./connector/oracle -run TestFaultMatrix repeats and shrinks one.
FOR ?= 2m
soak:
	@mkdir -p bin; SEGSYNC_SOAK=$(FOR) go test -count=1 -timeout 0 -v -run Soak ./connector/oracle >bin/soak.log; status=$$?; \
	grep -v -- '=== RUN\|--- PASS' bin/soak.log; exit $$status

# The stand-in, tried with the API's own Go client (a module of its own).
official:
	cd sink/sandbox/official && go test -count=1 ./...

# Ways to break the engine, each of which must turn its test red.
sabotage:
	.ci/sabotage

# The image needs the system's certificates: Debian's ca-certificates, or CERTS=file.
CERTS ?= /etc/ssl/certs/ca-certificates.crt
IMAGE ?= segsync:dev
.PHONY: image
image:
	rm -rf bin/image && mkdir -p bin/image
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/image/segsync ./cmd/segsync
	cp $(CERTS) bin/image/ca-certificates.crt
	cp "$$(go env GOROOT)/lib/time/zoneinfo.zip" bin/image/zoneinfo.zip
	docker build -q -t $(IMAGE) -f deployments/Dockerfile bin/image
