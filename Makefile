# One command each; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TRAIN_BIN := .venv-train/bin
# Given by the caller: recipes read them from the environment, so that any file name is one argument.
export OUT ?= out
export PHOTO ?=
export PHOTOS ?=
export DATA ?=
export TEACHERS ?=
PIP := -m pip --disable-pip-version-check --quiet
# Where PyTorch comes from besides the usual index, for training and export. The build without CUDA
# (3 GB less) is on https://download.pytorch.org/whl/cpu.
TORCH_INDEX ?=
BUF := npx --yes @bufbuild/buf@1.75.0
export HEADSHOT_CACHE ?= $(CURDIR)/.cache/triton
# A space in a target's name would make two targets of it.
SPACE := $(subst ,, )
TRITON_INSTALLED := $(subst $(SPACE),\ ,$(HEADSHOT_CACHE))/.installed

.DEFAULT_GOAL := help
.PHONY: help setup setup-train headshot serve test test-privacy test-all chaos lint proto bench loadtest soak gallery export test-training evaluate evaluate-folders studio-check lock audit clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

$(VENV)/.installed: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: run make PYTHON=python3.12 ...")'
	@echo "setting up $(VENV): pinned packages, once, one to three minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(PIP) install --require-hashes --progress-bar on -r requirements/dev.txt
	@$(BIN)/python $(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(TRITON_INSTALLED): $(VENV)/.installed service/headshot/triton/server-requirements.txt
	@echo "installing the Triton server, once, one to two minutes"
	@$(BIN)/python scripts/install_triton.py
	@touch "$$HEADSHOT_CACHE/.installed"

setup: $(VENV)/.installed $(TRITON_INSTALLED)  ## Install everything that the service and its tests need

headshot: setup  ## Make a verified headshot of PHOTO=... (default: the astronaut of scikit-image) into OUT=out
	@$(BIN)/headshot create "$${PHOTO:-$$($(BIN)/python scripts/example_photo.py)}" --out "$$OUT" --candidates 3
	@echo "look at $$OUT/contact-sheet.jpg"

serve: setup  ## Serve on 127.0.0.1:8051 with an embedded Triton (ARGS="--port 9000")
	@$(BIN)/headshot serve $(ARGS)

test: setup  ## All fast tests
	@$(BIN)/python -m pytest $(ARGS)

test-privacy: setup  ## After a run of everything nothing of a photo is in the logs or on the disk
	@$(BIN)/python -m pytest -m 'not chaos' tests/integration/operations/test_privacy.py $(ARGS)

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

COMPILE := uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --upgrade
# What PyTorch needs: its CUDA build's own packages, and those that every build needs.
TORCH_CUDA := torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc \
	nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse \
	nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx
TORCH_PLAIN := filelock fsspec jinja2 lazy-importer markupsafe mpmath networkx setuptools sympy typing-extensions

lock: $(VENV)/.installed  ## Renew the pinned, hashed requirements (needs uv)
	@$(COMPILE) --extra c2pa --extra tracing pyproject.toml -o requirements/runtime.txt
	@$(COMPILE) pyproject.toml requirements/dev.in -o requirements/dev.txt
	@$(COMPILE) $(TORCH_CUDA:%=--no-emit-package %) -c requirements/runtime.txt pyproject.toml requirements/train.in requirements/torch.txt -o requirements/train.txt
	@$(COMPILE) $(TORCH_CUDA:%=--no-emit-package %) requirements/export.in requirements/torch.txt -o requirements/export.txt
	@$(COMPILE) $(TORCH_PLAIN:%=--no-emit-package %) -c requirements/export.txt requirements/torch.txt -o requirements/torch-cuda.txt
	@for name in build audit; do $(COMPILE) requirements/$$name.in -o requirements/$$name.txt; done
	@$(COMPILE) -c requirements/dev.txt requirements/loadgen.in -o requirements/loadgen.txt
	@$(COMPILE) --no-emit-package opencv-python -c requirements/export.txt requirements/research.in -o requirements/research.txt

.venv-audit/.installed: requirements/audit.txt
	@$(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/python $(PIP) install --require-hashes -r requirements/audit.txt
	@touch $@

# torch.txt has no hash; torch-cuda.txt pins the same PyTorch with one.
AUDITED := $(filter-out requirements/torch.txt,$(sort $(wildcard requirements/*.txt))) service/headshot/triton/server-requirements.txt

audit: .venv-audit/.installed  ## Check all pinned packages against the advisory database (needs the network)
	@failed=0; for file in $(AUDITED); do echo "$$file"; .venv-audit/bin/pip-audit --disable-pip --require-hashes -r "$$file" || failed=1; done; exit $$failed

clean:  ## Remove what the other targets made
	rm -rf $(VENV) .venv-train .venv-export .venv-audit .cache out build

bench: setup  ## Floor, service, plain pipeline and FastAPI on the same files: one table
	@$(BIN)/python -m loadtest.bench $(ARGS)

loadtest: setup  ## One load scenario with a report (SCENARIO=create-web)
	@$(BIN)/python -m loadtest $(or $(SCENARIO),create-web) $(ARGS)

soak: setup  ## One hour of mixed load, ends by itself
	@$(BIN)/python -m loadtest soak $(ARGS)

gallery: setup  ## One page of photos x styles x backgrounds x crops (PHOTOS=folder, ARGS=--full for all)
	@$(BIN)/python scripts/gallery.py $(if $(PHOTOS),--photos "$$PHOTOS") $(ARGS)

# The pins first, so that PyTorch finds all it needs and brings at most its own CUDA packages.
install_torch = $(1)/bin/python $(PIP) install --progress-bar on $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r requirements/torch.txt

.venv-train/.installed: requirements/train.txt requirements/torch.txt
	@echo "setting up .venv-train: PyTorch and the training tools, once, two to five minutes"
	@$(PYTHON) -m venv .venv-train
	@$(TRAIN_BIN)/python $(PIP) install --require-hashes --no-deps --progress-bar on -r requirements/train.txt
	@$(call install_torch,.venv-train)
	@$(TRAIN_BIN)/python -m pip check
	@touch $@

setup-train: .venv-train/.installed  ## Install what training and export need (PyTorch)

export: setup-train  ## Rebuild model_repository/*/1/model.onnx from the committed weights, checked
	@PYTHONPATH=service $(TRAIN_BIN)/python -m export_scripts.export --profile compact $(ARGS)
	@PYTHONPATH=service $(TRAIN_BIN)/python -m export_scripts.tensorrt.configs --repository model_repository

test-training: setup-train  ## Tests of networks and trainings, which need PyTorch
	@PYTHONPATH=service $(TRAIN_BIN)/python -m pytest tests/unit/test_*_training.py $(ARGS)

evaluate: evaluate-folders setup-train  ## All metrics of the compact networks as one table (DATA=folder TEACHERS=folder)
	@PYTHONPATH=service $(TRAIN_BIN)/python -m export_scripts.evaluate $(if $(DATA),--data "$$DATA") $(if $(TEACHERS),--teachers "$$TEACHERS") $(ARGS)

evaluate-folders:
	@$(if $(DATA)$(findstring --benchmark-only,$(ARGS)),:,echo "make evaluate DATA=folder TEACHERS=folder, or make evaluate ARGS=--benchmark-only (CONTRIBUTING.md says what lies in them)" >&2; exit 2)

.venv-export/.installed: requirements/export.txt requirements/torch.txt
	@echo "setting up .venv-export: PyTorch, diffusers and transformers, once, two to five minutes"
	@$(PYTHON) -m venv .venv-export
	@.venv-export/bin/python $(PIP) install --require-hashes --no-deps --progress-bar on -r requirements/export.txt
	@$(call install_torch,.venv-export)
	@.venv-export/bin/python -m pip check
	@touch $@

studio-check: setup .venv-export/.installed  ## Studio profile: exports, Triton load, contract, end to end, one table
	@PYTHONPATH=service .venv-export/bin/python -m export_scripts.studio.check $(ARGS)
