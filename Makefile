# PYTHON   interpreter to build the environment with (default: the newest of 3.13 to 3.10, else python3)
# VENV     where the environment is, or is made; an existing one is used and kept up to date
PYTHON ?=
VENV   ?= .venv

# make prune CFG=… WEIGHTS=… prunes another model, DATA=… with its mAP
CFG        := cfg/digits.cfg
WEIGHTS    := weights/digits.weights
DATA       := $(if $(filter cfg/digits.cfg,$(CFG)),data/digits.data)
STRATEGY   := shortcut
PERCENT    := 0.5
OUT        := pruned
EXAMPLES   := data/digits/images/valid_0001.jpg data/digits/images/valid_0002.jpg
# thresholds say how much goes, not a percent
SHARE       = $(if $(filter bayesian,$(STRATEGY)),,$(PERCENT))
RESULT      = $(OUT)/$(patsubst %-bayesian,%,$(notdir $(basename $(CFG))))-$(STRATEGY)$(SHARE:%=-%)
PYTESTARGS := -n auto

# The stamps belong to this checkout: an environment that served another one is installed anew.
RUN      = $(VENV)/bin/python
CHECKOUT := $(shell pwd | cksum | cut -d ' ' -f 1)
INSTALLED      = $(VENV)/.installed-$(CHECKOUT)
INSTALLED_TEST = $(VENV)/.installed-test-$(CHECKOUT)
PIP_INSTALL    = $(RUN) -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: help prune data test test-long lint types format bench clean

help:
	@echo "make prune    prune $(CFG) by $(PERCENT) into $(OUT)/, print the tables, detect something"
	@echo "make data     make the sample data, data/digits.data"
	@echo "make test     run the tests"
	@echo "make test-long  run those that take minutes each"
	@echo "make lint     check style and formatting"
	@echo "make types    check types"
	@echo "make format   format the sources"
	@echo "make bench    time the core, then training and evaluation"
	@echo "make clean    remove pruned/, builds and caches; $(VENV) stays"
	@echo "Variables: PYTHON, VENV, CFG, WEIGHTS, DATA, STRATEGY, PERCENT, OUT, PYTESTARGS"

prune: $(INSTALLED) $(filter data/digits.data,$(DATA))
	$(RUN) tools/prune.py --cfg $(CFG) --weights $(WEIGHTS) --strategy $(STRATEGY) \
		$(SHARE:%=--percent %) --out $(OUT) $(if $(DATA),--data $(DATA))
ifeq ($(DATA),data/digits.data)
	$(RUN) tools/detect.py --cfg $(RESULT).cfg --weights $(RESULT).weights --data $(DATA) \
		--out $(OUT)/detections $(EXAMPLES)
endif

data: data/digits.data

data/digits.data: | $(INSTALLED)
	$(RUN) tools/convert.py sample data

# One thread a worker: the workers share the cores already.
test: $(INSTALLED_TEST)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(RUN) -m pytest $(PYTESTARGS)

# What takes minutes each: every cfg as ONNX, OpenCV 5 in an environment of its own.
test-long: $(INSTALLED_TEST)
	$(RUN) -m pytest -m long

lint: $(INSTALLED_TEST)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(INSTALLED_TEST)
	$(RUN) -m mypy

format: $(INSTALLED_TEST)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(INSTALLED)
	$(RUN) tools/bench.py core
	$(RUN) tools/bench.py train

clean:
	rm -rf pruned build *.egg-info .hypothesis .pytest_cache .ruff_cache .mypy_cache
	find . -name '.?*' -prune -o -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): setup.cfg constraints.txt | $(RUN)
	@rm -f $(VENV)/.installed-*
	$(PIP_INSTALL) -e '.[convert]'
	@touch $@

$(INSTALLED_TEST): setup.cfg constraints.txt | $(RUN)
	@rm -f $(VENV)/.installed-*
	$(PIP_INSTALL) -e '.[test]'
	@touch $(INSTALLED) $@

$(RUN):
	@found=; \
	for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3.10 python3); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || continue; \
		found="$$python"; \
		"$$python" -c 'import ensurepip, venv' 2>/dev/null || continue; \
		echo "$$python -m venv $(VENV)"; \
		exec "$$python" -m venv "$(VENV)"; \
	done; \
	if [ -n "$$found" ]; then \
		echo "error: $$found cannot make virtual environments: install its venv module (Debian, Ubuntu: python3-venv)" >&2; \
	else \
		echo "error: $(or $(PYTHON:%=% is),found) no Python 3.10 or newer; name one: make PYTHON=/path/to/python3" >&2; \
	fi; \
	exit 1
