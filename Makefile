# Every target sets up what it needs; nothing but Python (3.10 or later) and make has to be there.
PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt

LOCK = $(VENV)/bin/uv pip compile pyproject.toml --upgrade --extra images --extra cuda --extra signing --no-annotate \
	--no-emit-index-url --quiet --custom-compile-command "make lock"

.PHONY: demo test lint fuzz bench paper-table ablation four-bits peers corpus truth gpu-test gpu-bench gpu-bundle docs lock release clean

demo: $(VENV)/.demo            ## real data, from ONNX to a searched plan, a report and an engine, in about a minute
	$(VENV)/bin/trt-mpq demo

test: $(VENV)/.dev             ## the whole suite; tests that need data, a browser or a GPU say so when they skip
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 8 --dist loadfile

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/.dev             ## the documentation as a site that needs no network, site/index.html; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

fuzz: $(VENV)/.dev             ## ten thousand damaged models, data, recipes, jobs and run folders
	$(VENV)/bin/python -m tests.fuzz --cases 10000

bench: $(VENV)/.dev            ## speed: plan evaluation against FP32, start-up, the whole run on ResNet-20, workers
	$(VENV)/bin/python -m bench.evaluation_cost
	$(VENV)/bin/python -m bench.end_to_end
	$(VENV)/bin/python -m bench.workers

paper-table: $(VENV)/.dev      ## the paper's table: metric x search x target x ladder
	$(VENV)/bin/python -m bench.paper_table

ablation: $(VENV)/.dev         ## what rankings and ranges by tensor are worth to the search
	$(VENV)/bin/python -m bench.ranking_worth
	$(VENV)/bin/python -m bench.ranges

four-bits: $(VENV)/.dev        ## ladders with 4 bit on trained transformers, and what NVIDIA's compiler makes of the plans
	$(VENV)/bin/python -m bench.four_bits
	$(VENV)/bin/python -m bench.four_bits_realised

peers: $(VENV)/.dev            ## ours against NNCF, AIMET, Quark, Neural Compressor, Model Optimizer, ONNX Runtime; 7 GB
	$(VENV)/bin/python -m bench.peers

corpus: $(VENV)/.dev           ## networks of the world and files that packages ship, to engines; PYTHON_ARCHS= has their libraries
	$(VENV)/bin/python -m bench.real_files
	$(VENV)/bin/python -m bench.architectures --python $(or $(PYTHON_ARCHS),$(VENV)/bin/python)
	$(VENV)/bin/python -m bench.corpus.page

truth: $(VENV)/.dev            ## lint rules, fusions and realised precision against NVIDIA's compiler; PYTHON_ARCHS= as above
	$(VENV)/bin/python -m bench.lint_truth
	$(or $(PYTHON_ARCHS),$(VENV)/bin/python) -m bench.untrained bench/cache/untrained
	$(VENV)/bin/python -m bench.fusions
	$(VENV)/bin/python -m bench.realised

gpu-test: $(VENV)/.gpu         ## on a GPU host: the suite that builds and runs real engines
	$(VENV)/bin/python -m pytest -m gpu

lock: | $(VENV)/bin/pip        ## what the images install, anew: every package at one version
	$(PIP) uv
	$(LOCK) --universal --python-version 3.12 --constraint constraints.txt --extra torch --extra rtx -o docker/constraints.lock
	$(LOCK) --python-platform aarch64-unknown-linux-gnu --python-version 3.10 --constraint docker/jetpack6.in -o docker/jetpack6.lock

release: | $(VENV)/bin/pip     ## what is published, in dist/: wheel and source, checked, and a bill of materials; nothing is uploaded
	$(PIP) build twine cyclonedx-bom
	rm -rf dist
	$(VENV)/bin/python -m build --outdir dist
	$(VENV)/bin/twine check --strict dist/*
	$(VENV)/bin/cyclonedx-py requirements docker/constraints.lock --output-format JSON --output-file dist/trt-mpq.cdx.json

gpu-bench: $(VENV)/.gpu        ## on a GPU host: FP32, FP16, INT8, FP8 and searched plans, timed in turns at four batch sizes
	$(VENV)/bin/python -m bench.gpu prepare
	$(VENV)/bin/python -m bench.gpu measure

gpu-bundle: $(VENV)/.dev       ## one folder with all that a GPU host without network needs for both; WHEELS= adds some
	$(VENV)/bin/python -m bench.gpu prepare
	$(VENV)/bin/python -m bench.gpu_bundle gpu-bundle $(WHEELS:%=--wheel %)

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/pip
	$(PIP) --editable '.[demo,rtx]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.demo

$(VENV)/.gpu: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(PIP) --editable '.[dev,tensorrt,cuda]'
	touch $@

clean:
	rm -rf $(VENV) demo-run .pytest_cache .mypy_cache .ruff_cache site
