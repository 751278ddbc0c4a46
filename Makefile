# Called by `sh setup TARGET`, which makes .venv first; or by itself once that is there.
PYTHON := .venv/bin/python
SECONDS ?= 600

.PHONY: demo test bench soak fuzz lint golden catalog pictures image hil

# The main job on real disks, as a person sees it.
demo:
	$(PYTHON) demo.py

# A file of tests has one process, so that what its tests share is made once; the files of real
# services, which take longest, go first.  Hundreds of processes start meanwhile: none compiles the
# service for itself, not even where Python keeps nothing that it compiled.
test:
	$(PYTHON) -m compileall -q appliance
	$(PYTHON) -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder

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

IMAGE_SCRIPTS := $(wildcard firmware_config/image/*.sh firmware_config/image/root/usr/lib/ebbtide/* \
	firmware_config/image/root/usr/local/sbin/*)

lint:
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	@if command -v shellcheck >/dev/null; then shellcheck -x setup .ci/run $(IMAGE_SCRIPTS) firmware_config/programs/*; fi

# Rewrites the disk images that hold the on-disk format fixed; see tests/golden.
golden:
	$(PYTHON) -m tests.golden

# Rewrites the documents' pictures of the front panel; see tests/operators/panel/pictures.py.
pictures:
	$(PYTHON) -m tests.operators.panel.pictures

# Writes the journal's catalog anew, from the table of events.
catalog:
	$(PYTHON) -m appliance.operators.journal_catalog >firmware_config/journal/ebbtide.catalog

# The firmware image, and the bundle that updates to it, in build/image; docs/firmware.md.
image:
	sh firmware_config/image/build.sh

# The tests of the whole machine: on the virtual rig, with an image of this tree, or on RIG=bench.yaml.
# TESTS="-k power_cut" chooses; docs/rig.md.
RIG ?= hil_tests/rigs/virtual.yaml
TESTS ?=
hil:
ifeq ($(RIG),hil_tests/rigs/virtual.yaml)
	@sh firmware_config/image/current.sh qemu-q35 || $(MAKE) --no-print-directory image
endif
	.venv-hil/bin/python -m pytest -c hil_tests/pytest.ini --rootdir . --lg-env $(RIG) $(TESTS) hil_tests
