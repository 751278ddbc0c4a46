# Called by `sh setup TARGET`, which makes .venv first; or by itself once that is there.
PYTHON := .venv/bin/python
SECONDS ?= 600

.PHONY: demo test bench soak fuzz lint golden catalog pictures

# The main job on real disks, as a person sees it.
demo:
	$(PYTHON) demo.py

test:
	$(PYTHON) -m pytest

# Timed figures beside peers, in one run.
bench:
	$(PYTHON) -m bench

# For SECONDS seconds each: simulated power cuts in all that happens, those in synchronisations,
# and a real verify beside a real host.
soak:
	$(PYTHON) -m tests.soak --seconds $(SECONDS)
	$(PYTHON) -m tests.soak --seconds $(SECONDS) --scans
	$(PYTHON) -m tests.false_alarms --seconds $(SECONDS)

# Every face under whatever may come in, SECONDS seconds each; FACES="control" chooses.
FACES ?= $(shell $(PYTHON) -c 'from tests.fuzz import FACES; print(*FACES)')
fuzz:
	for face in $(FACES); do $(PYTHON) -m tests.fuzz $$face --seconds $(SECONDS) || exit 1; done

lint:
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	@if command -v shellcheck >/dev/null; then shellcheck setup .ci/run firmware_config/programs/*; fi

# Rewrites the disk images that hold the on-disk format fixed; see tests/golden.
golden:
	$(PYTHON) -m tests.golden

# Rewrites the documents' pictures of the front panel; see tests/operators/panel/pictures.py.
pictures:
	$(PYTHON) -m tests.operators.panel.pictures

# Writes the journal's catalog anew, from the table of events.
catalog:
	$(PYTHON) -m appliance.operators.journal_catalog >firmware_config/journal/ebbtide.catalog
