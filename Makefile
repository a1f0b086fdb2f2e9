# Everything here needs Python 3.11 or later and a package index, and nothing else installed.
# PYTHON and VENV may be given; PIP_* variables reach pip as they stand.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
VENV_CUDA ?= .venv-cuda
BIN := $(VENV)/bin
FASTSEQ := $(BIN)/fastseq
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet

# what `make bench` measures; give another collection by its paths
CORPUS ?= demo/docs.parquet
QUERIES ?= demo/queries.parquet
BENCH := $(BIN)/python -m bench
comma := ,
define newline


endef

.DEFAULT_GOAL := help

.PHONY: help
help: ## say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# 20 classes, 2,880 texts: small batches and ten times the usual learning rate make up for the few
# epochs. It ends with an accuracy of about 0.86.
.PHONY: demo
demo: $(VENV)/.installed ## index, search, train and predict on the sample corpora, in a fresh environment
	$(FASTSEQ) sample demo
	$(FASTSEQ) index demo/docs.parquet -o demo/index --overwrite
	$(FASTSEQ) search "wait for a subprocess to end" -i demo/index -k 5
	$(FASTSEQ) search --queries demo/queries.parquet -i demo/index -k 100 -o demo/run.trec
	$(FASTSEQ) evaluate demo/run.trec demo/qrels.parquet
	$(FASTSEQ) info demo/index --verify
	$(FASTSEQ) index data/bilingual/docs.parquet --text-column title --text-column text \
		-o demo/bilingual --overwrite
	$(FASTSEQ) search "猫喜欢吃什么" -i demo/bilingual -k 3
	$(FASTSEQ) search "why do cats purr" -i demo/bilingual -k 3 --format json
	$(FASTSEQ) fit-lstm demo/labelled.parquet --bidirectional --embedding 64 --hidden 64 \
		--epochs 3 --batch-size 16 --learning-rate 0.01 -o demo/model --overwrite
	$(FASTSEQ) test demo/model demo/labelled_test.parquet
	$(FASTSEQ) predict demo/model demo/labelled_test.parquet --keep label -o demo/predicted.parquet

# Two at once, or as many as `make -j2 test test-cuda` (.ci/run) allows for both together.
JOBS := $$(case "$$MAKEFLAGS" in *jobserver*) ;; *) echo -j2 ;; esac)

.PHONY: test
test: $(VENV)/.installed-test ## lint, and run the tests on a sample of the large suites, CUDA's in Numba's simulator
	$(MAKE) $(JOBS) $(firstword $(PARTS:%=test-%)) lint test-simulated $(PARTS:%=test-%)

.PHONY: test-all
test-all: ## the same on all of the randomised and exhaustive suites
	FASTSEQ_TESTS=all $(MAKE) test

# One run of pytest uses one processor. Several parts keep two of them busy, the shorter ones at the
# end. Two parts that begin together would compile the same kernels, so beside the first part (make takes
# its targets in order, each once) run those that compile few, and beside the second one the index.
PARTS := search models rest index cli
TESTS_search := tests/search
TESTS_index := tests/index tests/store
TESTS_models := tests/kernels tests/models tests/nn tests/vectors
TESTS_cli := tests/cli
TESTS_rest := $(patsubst %,--ignore=%,$(TESTS_search) $(TESTS_index) $(TESTS_models) $(TESTS_cli))

.PHONY: $(PARTS:%=test-%)
$(PARTS:%=test-%): test-%: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(TESTS_$*)

.PHONY: test-simulated
test-simulated: $(VENV)/.installed-test
	NUMBA_ENABLE_CUDASIM=1 $(BIN)/python -m pytest tests/cuda

.PHONY: test-cuda
test-cuda: $(VENV_CUDA)/.installed ## compile every CUDA kernel and run them emulated; no GPU needed
	$(MAKE) $(JOBS) test-cubin test-emulated

.PHONY: test-cubin
test-cubin: $(VENV_CUDA)/.installed
	$(VENV_CUDA)/bin/python -m pytest tests/cubin

.PHONY: test-emulated
test-emulated: $(VENV_CUDA)/.installed
	FASTSEQ_GPU=emulated $(VENV_CUDA)/bin/python -m pytest tests/cuda

.PHONY: lint
lint: $(VENV)/.installed-test ## check style and types
	$(BIN)/ruff check .
	$(BIN)/mypy fastseq cli bench

.PHONY: bench
bench: $(VENV)/.installed-bench $(if $(filter demo/%,$(CORPUS) $(QUERIES)),demo/docs.parquet) ## compare fastseq's speed with its peers' on CORPUS=… QUERIES=…
	$(BENCH).search --corpus "$(CORPUS)" --queries "$(QUERIES)"
	$(BENCH).indexing --corpus "$(CORPUS)"

.PHONY: bench-models
bench-models: $(VENV)/.installed-bench ## compare the speed of the recurrent layers with PyTorch's
	$(BENCH).recurrent

# The figures of bench/RESULTS.md; a missed target does not stop the others.
GLOVE := window=15 window=15,epochs=50 window=15,epochs=16 window=15,x_max=20,learning_rate=0.1 \
	window=15,symmetric=false window=15,alpha=0.5 epochs=16 x_max=100,epochs=16 x_max=5,epochs=8
.PHONY: bench-all
bench-all: $(VENV)/.installed-bench $(VENV_CUDA)/.installed ## run every benchmark on the data sets in DATA=…, those of BERT with CHECKPOINT=… (hours)
	@test -d "$(DATA)" || { echo "give the folder of the data sets: make bench-all DATA=…" >&2; exit 1; }
	-$(BENCH).search --data "$(DATA)"
	-$(BENCH).queries --data "$(DATA)"
	-$(BENCH).queries --data "$(DATA)" --threads 2 --sections or and phrase prefix fuzzy not filter long
	-$(BENCH).queries --data "$(DATA)" --sentences --sections or and phrase prefix fuzzy not filter long count
	-$(BENCH).impacts
	-$(BENCH).dense
	-test -z "$(CHECKPOINT)" || $(BENCH).bert --model "$(CHECKPOINT)" --data "$(DATA)"
	-test -z "$(CHECKPOINT)" || $(BENCH).finetuning --model "$(CHECKPOINT)" --data "$(DATA)" --peer
	-$(BENCH).pretrain --data "$(DATA)"
	-$(BENCH).ciff --data "$(DATA)"
	-$(BENCH).indexing --data "$(DATA)"
	-$(BENCH).living --data "$(DATA)"
	-$(BENCH).startup --first-run
	-$(BENCH).quality --data "$(DATA)" --collections ir/scifact
	-$(BENCH).quality --data "$(DATA)" --collections ir/cranfield --depth 1000
	-$(BENCH).quality --data "$(DATA)" --collections ir/xquad_zh --analysis=""
	-$(BENCH).quality --data "$(DATA)" --collections ir/xquad_hi --analysis="--language hindi"
	-$(BENCH).quality --data "$(DATA)" --collections ir/xquad_tr --analysis="--language turkish"
	-$(BENCH).quality --data "$(DATA)" --collections ir/xquad_de --analysis="--language german"
	-$(BENCH).quality --data "$(DATA)" --analysis="--language english"
	-$(BENCH).quality --data "$(DATA)" --analysis="--language english --tokenizer word"
	-$(BENCH).features --data "$(DATA)" --rows 100000
	-$(BENCH).features --data "$(DATA)" --kinds tfidf --ngrams 1
	-$(BENCH).recurrent
	-$(BENCH).recurrent --fma-peak
	-$(BENCH).epochs --data "$(DATA)"
	-$(BENCH).prediction --data "$(DATA)"
	-$(BENCH).accuracy --data "$(DATA)" --seeds 5
	-$(BENCH).adding --seeds 5
	-$(BENCH).vectors --data "$(DATA)" --task skipgram cbow --seeds 3
	-$(BENCH).vectors --data "$(DATA)" --task fasttext skipgram-hs cbow-hs --seeds 1
	-$(BENCH).vectors --data "$(DATA)" --task skipgram cbow fasttext --seeds 1 --set epochs=1 --sentences
	-$(BENCH).vectors --data "$(DATA)" --task skipgram cbow --seeds 1 --set epochs=1
	-$(BENCH).vectors --data "$(DATA)" --task glove --seeds 1
	$(foreach settings,$(GLOVE),-$(BENCH).vectors --data "$(DATA)" --task glove --seeds 1 --set \
		$(subst $(comma), ,$(settings))$(newline))
	-$(BENCH).fasttext_classifier --data "$(DATA)" --folds 10
	-$(BENCH).pretrained --data "$(DATA)"
	-$(BENCH).documents --data "$(DATA)"
	-$(BENCH).expansion --data "$(DATA)" --own
	-$(BENCH).feedback --data "$(DATA)"
	-$(BENCH).fields --data "$(DATA)"
	-$(BENCH).vmath
	-$(BENCH).vmath --sweep
	-$(VENV_CUDA)/bin/python -m bench.launching

.PHONY: docs
docs: $(VENV)/.installed-docs ## build the documentation into docs/build, warnings as errors
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/build

.PHONY: clean
clean: ## remove the environments and what the demo wrote
	rm -rf "$(VENV)" "$(VENV_CUDA)" demo docs/build .mypy_cache .pytest_cache .ruff_cache

demo/docs.parquet: | $(VENV)/.installed
	$(FASTSEQ) sample demo

# A system's Python may come without the part of venv that brings pip: its own pip then fills in.
$(BIN)/python $(VENV_CUDA)/bin/python:
	@test -n "$(PYTHON)" || { echo "fastseq needs Python 3.11 or later: make PYTHON=…" >&2; exit 1; }
	$(PYTHON) -m venv "$(@D)/.." || { $(PYTHON) -m venv --clear --without-pip "$(@D)/.." && \
		$(PYTHON) -m pip --python "$@" install --quiet pip; }

# Two installations of the checkout at once would write the same metadata.
ifneq ($(and $(filter test,$(MAKECMDGOALS)),$(filter test-cuda,$(MAKECMDGOALS))),)
$(VENV_CUDA)/.installed: | $(VENV)/.installed-test
endif

# An environment of its own: numba-cuda takes the place of Numba's CUDA target, the simulator too.
$(VENV_CUDA)/.installed: pyproject.toml | $(VENV_CUDA)/bin/python
	$(VENV_CUDA)/bin/python -m pip install --disable-pip-version-check --quiet -e '.[cuda]' "pytest>=8" "hypothesis>=6.100"
	@touch $@

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(INSTALL) -e '.[test]'
	@touch $@ "$(VENV)/.installed"

$(VENV)/.installed-bench: pyproject.toml | $(BIN)/python
	$(INSTALL) -e '.[bench]'
	@touch $@ "$(VENV)/.installed"

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(INSTALL) -e '.[docs]'
	@touch $@ "$(VENV)/.installed"
