# One command each; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TRAIN_BIN := .venv-train/bin
OUT ?= out
PHOTO ?=
PIP := -m pip --disable-pip-version-check --quiet
BUF := npx --yes @bufbuild/buf@1.75.0
export HEADSHOT_CACHE ?= $(CURDIR)/.cache/triton

.DEFAULT_GOAL := help
.PHONY: help setup setup-train headshot serve test test-all chaos lint proto bench loadtest soak gallery export evaluate studio-check lock audit clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

$(VENV)/.installed: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: run make PYTHON=python3.12 ...")'
	@echo "setting up $(VENV): pinned packages, once, one to three minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(PIP) install --require-hashes --progress-bar on -r requirements/dev.txt
	@$(BIN)/python $(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(HEADSHOT_CACHE)/.installed: $(VENV)/.installed service/headshot/triton/server-requirements.txt
	@echo "installing the Triton server, once, one to two minutes"
	@$(BIN)/python scripts/install_triton.py
	@touch $@

setup: $(VENV)/.installed $(HEADSHOT_CACHE)/.installed  ## Install everything that the service and its tests need

headshot: setup  ## Make a verified headshot of PHOTO=... (default: the astronaut of scikit-image) into OUT=out
	@$(BIN)/headshot create $(or $(PHOTO),$$($(BIN)/python scripts/example_photo.py)) --out $(OUT) --candidates 3
	@echo "look at $(OUT)/contact-sheet.jpg"

serve: setup  ## Serve on 127.0.0.1:8051 with an embedded Triton (ARGS="--port 9000")
	@$(BIN)/headshot serve $(ARGS)

test: setup  ## All fast tests
	@$(BIN)/python -m pytest $(ARGS)

test-all: setup  ## All tests, the slow ones too
	@$(BIN)/python -m pytest -m 'not chaos' $(ARGS)

chaos: setup  ## Kill, hang, slow down and overload the running service; print a table
	@$(BIN)/python -m tests.chaos.run

lint: $(VENV)/.installed  ## Style, types, proto, generated files, deployment manifests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python scripts/generate_proto.py --check
	@$(BIN)/python -m deploy.validation
	@if command -v npx >/dev/null; then cd proto && $(BUF) lint ../tests/contract/api.binpb --path headshot; else echo "buf lint skipped: npx is not installed"; fi

proto: $(VENV)/.installed  ## Generate service/headshot/v1 from proto/
	@$(BIN)/python scripts/generate_proto.py

lock: $(VENV)/.installed  ## Renew the pinned, hashed requirements (needs uv)
	@uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --upgrade pyproject.toml -o requirements/runtime.txt
	@uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --upgrade pyproject.toml requirements/dev.in -o requirements/dev.txt

audit: $(VENV)/.installed  ## Check the pinned packages against the advisory database (needs the network)
	@$(BIN)/python $(PIP) install pip-audit && $(BIN)/pip-audit --require-hashes -r requirements/runtime.txt

clean:  ## Remove what the other targets made
	rm -rf $(VENV) .venv-train .cache out build

bench: setup  ## Floor, service, plain pipeline and FastAPI on the same files: one table
	@$(BIN)/python -m loadtest.bench $(ARGS)

loadtest: setup  ## One load scenario with a report (SCENARIO=create-web)
	@$(BIN)/python -m loadtest $(or $(SCENARIO),create-web) $(ARGS)

soak: setup  ## One hour of mixed load, ends by itself
	@$(BIN)/python -m loadtest soak $(ARGS)

gallery: setup  ## One page of photos x styles x backgrounds x crops (PHOTOS=folder)
	@$(BIN)/python scripts/gallery.py $(ARGS)

.venv-train/.installed: requirements/train.txt pyproject.toml
	@echo "setting up .venv-train: PyTorch for the CPU and the export tools, once"
	@$(PYTHON) -m venv .venv-train
	@$(TRAIN_BIN)/python $(PIP) install -r requirements/train.txt
	@$(TRAIN_BIN)/python $(PIP) install -r requirements/runtime.txt
	@touch $@

setup-train: .venv-train/.installed  ## Install what training and export need (PyTorch)

export: setup-train  ## Rebuild model_repository/*/1/model.onnx from the committed weights, checked
	@PYTHONPATH=service $(TRAIN_BIN)/python -m export_scripts.export --profile compact $(ARGS)
	@PYTHONPATH=service $(TRAIN_BIN)/python -m export_scripts.tensorrt.configs --repository model_repository

evaluate: setup-train  ## All metrics of the compact networks as one table (DATA=folder)
	@PYTHONPATH=service $(TRAIN_BIN)/python -m export_scripts.evaluate --data $(DATA) $(ARGS)

.venv-export/.installed: requirements/export.txt pyproject.toml
	@echo "setting up .venv-export: PyTorch for the CPU, diffusers and TensorRT's tools, once"
	@$(PYTHON) -m venv .venv-export
	@.venv-export/bin/python $(PIP) install -r requirements/export.txt
	@touch $@

studio-check: setup .venv-export/.installed  ## Studio profile: exports, Triton load, contract, end to end, one table
	@PYTHONPATH=service .venv-export/bin/python -m export_scripts.studio.check $(ARGS)
