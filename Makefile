# Verbs of the project; each does the set-up that it needs. PYTHON is any Python of at least 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
NPM := BIN="$(abspath $(BIN))" sh clients/web/npm.sh
PAGE := clients/web/dist/index.html
PAGE_SOURCES := $(shell find clients/web -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)

.PHONY: install run test test-browser test-slow fuzz lint bench load stall churn rtc ear speakers train web clean

install: $(VENV)/.installed

$(VENV)/.core: pyproject.toml clients/python/pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt -e clients/python -e .
	touch $@

# torchaudio's compiled library links CUDA and does not load beside a CPU torch; without it torchaudio is pure Python.
$(VENV)/.installed: $(VENV)/.core
	$(PIP) -c constraints.txt -e clients/python -e '.[asteroid,pyannote,speechbrain,train,bench,dev]'
	$(BIN)/python -c "import torch, sys; sys.exit(torch.version.cuda is not None)" \
	  && rm -f $(VENV)/lib/python3*/site-packages/torchaudio/lib/*.so || true
	touch $@

run: $(VENV)/.core $(PAGE)
	$(BIN)/rivulet serve

web: $(PAGE)

$(PAGE): $(PAGE_SOURCES) | $(VENV)/.core
	$(NPM) ci --no-audit --no-fund
	$(NPM) run build

# Two processes of tests; what a busy machine spoils is tried once more, alone.
FAST = -m "not slow and not browser"
test: install $(PAGE)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(FAST) || $(BIN)/python -m pytest $(FAST) --last-failed
	$(BIN)/python -m pytest tests/test_browser_demos.py
	$(NPM) test
	$(NPM) run check

# Chromium drives the page, over both transports. Sound is in real time: what a busy machine spoils is tried once more.
test-browser: install $(PAGE)
	$(BIN)/python -m pytest -m "browser and not slow" || $(BIN)/python -m pytest -m "browser and not slow" --last-failed

test-slow: install $(PAGE)
	$(BIN)/python -m pytest -m slow

# docs/testing.md: `make fuzz SECONDS=60 MESSAGES=100000`
MESSAGES ?= 100000
fuzz: install
	$(BIN)/python tests/fuzz/wire_fuzz.py --seconds $(SECONDS)
	$(BIN)/python tests/fuzz/socket_fuzz.py --messages $(MESSAGES)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Starts its own server: `make bench MODEL=music SECONDS=60 SESSIONS=1`
MODEL ?= speech
SECONDS ?= 30
SESSIONS ?= 1
BENCH_PORT ?= 8765
WITH_SERVER = $(BIN)/rivulet serve --port $(BENCH_PORT) --log-level warning & server=$$!; trap "kill $$server" EXIT; \
	$(BIN)/python -c "import time, urllib.request as u; \
	exec('while True:\n try: u.urlopen(\"http://127.0.0.1:$(BENCH_PORT)/readyz\"); break\n except OSError: time.sleep(0.5)')"; \
	mkdir -p out;
bench: install
	$(WITH_SERVER) $(BIN)/python -m clients.bench.latency --url ws://127.0.0.1:$(BENCH_PORT) --model $(MODEL) \
	  --seconds $(SECONDS) --sessions $(SESSIONS) --json out/bench.json --plot out/bench.png

# The same way; docs/benchmarks.md: `make load OPTIONS="--hold-at-max 600"`
OPTIONS ?=
churn load stall: install
	$(WITH_SERVER) $(BIN)/python -m clients.bench.$@ --url ws://127.0.0.1:$(BENCH_PORT) --model $(MODEL) \
	  --json out/$@.json $(OPTIONS)

# WebRTC beside the WebSocket; `ear` with a Chromium
ear rtc: install $(PAGE)
	$(WITH_SERVER) $(BIN)/python -m clients.bench.$@ --url http://127.0.0.1:$(BENCH_PORT) --model $(MODEL) \
	  --seconds $(SECONDS) --json out/$@.json $(OPTIONS)

# The swap-rate benchmark; `make speakers OPTIONS="--people 2 --diarizer FOLDER"`
speakers: install
	mkdir -p out
	$(BIN)/python -m clients.bench.speakers --json out/speakers.json --plot out/speakers.png $(OPTIONS)

# `make train MODEL=speech MINUTES=60 DATA=../shared/data`
MINUTES ?= 60
DATA ?= ../shared/data
train: install
	$(BIN)/python -m models.training $(MODEL) --minutes $(MINUTES) --data $(DATA) $(if $(wildcard runs/$(MODEL)/last.pt),--resume)

clean:
	rm -rf $(VENV) clients/web/dist clients/web/node_modules
