# The two commands of the README are `make lab` and `make test`; both make .venv first, with all that is needed.
PYTHON ?= python3
BIN = .venv/bin
NOTEBOOKS = $(sort $(wildcard notebooks/[0-9]*.ipynb))

# Which of them `make test-colab` runs: all, or for instance COLAB="01 04".
COLAB = *

.PHONY: lab test notebooks bench colab test-colab site matrix constraints clean

lab: .venv/ready
	$(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/$(firstword $(NOTEBOOKS)) \
		$(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_OPTIONS)

# Three runs of pytest, each of which says at its end how long it took.
test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/python -m pytest tests --ignore=tests/test_browser.py
	$(BIN)/python -m pytest tests/test_browser.py
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=300 $(NOTEBOOKS)

# Take over what was edited in notebooks/text, execute every notebook, and write both halves of each pair.
notebooks: .venv/ready
	for text in notebooks/text/[0-9]*.md; do \
		$(BIN)/jupytext --quiet --to ipynb --update --output notebooks/$$(basename $$text .md).ipynb $$text || exit 1; \
	done
	$(BIN)/jupyter nbconvert --log-level=WARN --to notebook --inplace --execute --ExecutePreprocessor.timeout=300 \
		notebooks/[0-9]*.ipynb
	$(BIN)/python tools/stills.py
	$(BIN)/jupytext --quiet --sync notebooks/[0-9]*.ipynb
	$(BIN)/python tests/readme_picture.py

bench: .venv/ready
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/controls.py

# Notebooks that need nothing beside them, to upload to Colab.
colab: .venv/ready
	$(BIN)/python tools/colab.py

# Each of them alone in an empty folder, with Colab's versions and nothing of the project installed.
test-colab: colab .venv-colab/ready
	for notebook in $(COLAB:%=dist/colab/%_*.ipynb); do \
		folder=$$(mktemp -d) && cp $$notebook $$folder && ( cd $$folder && \
		$(CURDIR)/.venv-colab/bin/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 . ) || exit 1; \
		rm -r $$folder; \
	done

.venv-colab/ready: Makefile
	$(PYTHON) -m venv .venv-colab
	.venv-colab/bin/python -m pip install --quiet 'tensorflow==2.20.*' 'keras==3.13.2' 'ipywidgets==7.7.1' \
		'protobuf<7' matplotlib scikit-learn ipykernel nbval pytest
	touch $@

# The notebooks as web pages, on which the controls move; what is drawn for them stays in dist/controls.
site: .venv/ready
	$(BIN)/python tools/site/controls.py dist/controls
	rm -rf dist/pages dist/site
	$(BIN)/python tools/site/pages.py dist/controls dist/pages
	$(BIN)/python -m sphinx -q -W -b html -c tools/site dist/pages dist/site

# Every Python and TensorFlow that is supported, as far as this machine has them.
matrix: .venv/ready
	$(BIN)/nox --no-error-on-missing-interpreters

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo 'Python 3.10 to 3.13 is needed. Name one: make PYTHON=python3.12 lab'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo 'This Python cannot make virtual environments. On Debian or Ubuntu: sudo apt install python3-venv'; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

# Newest versions of everything, for every Python that is supported.
constraints:
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/pip install --quiet uv
	.venv-uv/bin/uv pip compile --quiet --universal --upgrade --python-version 3.10 --all-extras \
		--no-header --no-annotate pyproject.toml --output-file constraints.txt

clean:
	rm -rf .venv .venv-uv .venv-colab .nox dist *.egg-info .pytest_cache .ruff_cache
