# Two commands: `make app` and `make test`; `make test-long` runs the tests that take minutes by
# their nature. Everything else is in vlm4vla/system/bootstrap.py.
export HOST ?= 127.0.0.1
export PORT ?= 7860
# Test files at a time; those of the pages share a browser and a simulator, and follow one by one.
JOBS ?= 2

supported := import sys; (3, 11) <= sys.version_info[:2] <= (3, 12) and print(sys.executable)
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3,$(shell $(p) -c '$(supported)' 2>/dev/null)))
ifeq ($(strip $(PYTHON)),)
$(error VLM4VLA needs Python 3.11 or 3.12, and none was found: install one (`apt-get install python3.12`, pyenv or uv) or name it with PYTHON=/path/to/python)
endif

bin := .venv/bin
typed := vlm4vla $(wildcard app.py pages/*.py benchmarks/*.py assets/*.py)

.PHONY: app test test-long setup check-312

app:
	@$(PYTHON) -m vlm4vla.system.bootstrap app
	@exec $(bin)/python app.py

test:
	@$(PYTHON) -m vlm4vla.system.bootstrap test
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy $(typed)
	OMP_NUM_THREADS=1 $(bin)/pytest --numprocesses $(JOBS) --dist loadfile --ignore tests/pages
	$(bin)/pytest tests/pages

test-long:
	@$(PYTHON) -m vlm4vla.system.bootstrap test
	$(bin)/pytest -m long

setup:
	@$(PYTHON) -m vlm4vla.system.bootstrap app

# Tests run on 3.11; this resolves every dependency and checks every type as on 3.12.
check-312:
	$(bin)/pip install --dry-run --quiet --ignore-installed --python-version 3.12 \
	    --only-binary=:all: --target build/312 -c constraints.txt '.[sim,test]'
	$(bin)/mypy --python-version 3.12 $(typed)
