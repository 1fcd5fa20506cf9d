# make demo           set-up, then the main job on the embedded default: results in out/demo
# make people         fetch the models of real people (15 MB), then read camera 0: results in out/people
#                     SOURCE=clip.mp4: a video, an image, a folder or another camera; FROM=folder: models from there
# make test           set-up, then the tests
# make check          format, lint and types
# make test-robot     the robot package under Python 3.10 with the robot's packages only
# make demo-bundle    rebuild the demo bundle from nothing (hours)
# make clean          remove the environments and every build output; out/ and runs/ stay
#
# PYTHON=python3.12 make test          choose the workstation's interpreter (3.11 or 3.12)
# PYTHON310=/usr/bin/python3.10 ...    choose the robot's
# make test PYTEST_ARGS="-k gaze -x"   pass arguments to pytest

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo people test check format test-robot python310 demo-bundle clean

VENV := .venv
ROBOT := .venv-robot
PEOPLE := .venv-people
PIP_INSTALL := -W ignore -m pip install --quiet --disable-pip-version-check
DISK_GB ?= 8

# The first interpreter that runs and has the right version (a pyenv shim may exist and not run).
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && { echo "$$p"; break; }; done)
PYTHON310 ?= $(shell for p in python3.10 /usr/bin/python3.10 $(HOME)/.pyenv/versions/3.10.*/bin/python3.10; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null && { echo "$$p"; break; }; done)

# One test process per core; PARALLEL= runs them in one.
PARALLEL ?= -n auto --dist worksteal

# Folders that hold Python code in this version.
CODE = $(patsubst %/,%,$(sort $(dir $(wildcard sf_ros/*.py training/*.py export/*.py calibration/*.py))))
ROBOT_TESTS = tests/core tests/model tests/engines tests/perception tests/io tests/msgs tests/calibration tests/ros tests/test_perceive.py tests/test_import_rules.py tests/test_packaging.py

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

# $(call fail,what is wrong,what to do)
define fail
{ echo "sf_ros set-up: $(1)"; echo "  fix: $(2)"; exit 1; } >&2
endef

# $(call check_machine,interpreter,environment folder,version in words,apt name of its venv module)
define check_machine
[ -n "$(1)" ] || $(call fail,no Python $(3) found,install it (apt install $(4)) or name one: $(if $(filter $(ROBOT),$(2)),PYTHON310,PYTHON)=/path/to/python)
"$(1)" -c 'import ensurepip, venv' 2>/dev/null || $(call fail,$(1) has no venv module,apt install $(4))
if [ ! -d "$(2)" ]; then free_gb=$$(( $$(df -Pk . | awk 'NR==2 {print $$4}') / 1024 / 1024 )); \
	[ "$$free_gb" -ge $(DISK_GB) ] || $(call fail,$$free_gb GB of disk free here and $(DISK_GB) GB needed,free some space or move the checkout); fi
"$(1)" -c 'import ctypes; [ctypes.CDLL(name) for name in ("libGL.so.1", "libglib-2.0.so.0")]' 2>/dev/null || \
	$(call fail,OpenCV needs the system libraries libGL.so.1 and libglib-2.0.so.0,apt install libgl1 libglib2.0-0)
endef

setup: $(VENV)/.installed

$(VENV)/.installed: setup.py constraints.txt
	@$(call check_machine,$(PYTHON),$(VENV),3.11 or 3.12,python3-venv)
	@[ -x $(VENV)/bin/python ] || "$(PYTHON)" -m venv $(VENV)
	@echo "sf_ros set-up: installing the workstation's packages into $(VENV) (about 5 GB the first time, minutes) ..."
	@$(VENV)/bin/python $(PIP_INSTALL) -c constraints.txt -e '.[cpu,yolo,people,train,dev]'
	@$(VENV)/bin/python -c 'import cv2' || $(call fail,OpenCV does not import (see above),apt install libgl1 libglib2.0-0)
	@touch $@
	@echo "sf_ros set-up: done"

demo: setup
	$(VENV)/bin/python -m sf_ros.perceive demo --out out/demo --replace

# An environment of its own, without torch: a sixth of the workstation's.
$(PEOPLE)/.installed: setup.py constraints.txt
	@$(call check_machine,$(PYTHON),$(PEOPLE),3.11 or 3.12,python3-venv)
	@[ -x $(PEOPLE)/bin/python ] || "$(PYTHON)" -m venv $(PEOPLE)
	@echo "sf_ros set-up: installing onnxruntime, LiteRT and OpenCV into $(PEOPLE) (about 0.8 GB the first time) ..."
	@$(PEOPLE)/bin/python $(PIP_INSTALL) -c constraints.txt -e '.[people]'
	@touch $@
	@echo "sf_ros set-up: done"

SOURCE ?= 0
people: $(PEOPLE)/.installed
	@$(PEOPLE)/bin/python -m export.people $(if $(FROM),--from $(FROM))
	$(PEOPLE)/bin/python -m sf_ros.perceive $(SOURCE) --bundle people --out out/people --replace $(if $(DISPLAY)$(WAYLAND_DISPLAY),--show)

test: setup
	$(VENV)/bin/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

check: setup
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m mypy $(CODE)

format: setup
	$(VENV)/bin/python -m ruff check --fix .
	$(VENV)/bin/python -m ruff format .

$(ROBOT)/.installed: setup.py constraints-robot.txt
	@$(call check_machine,$(PYTHON310),$(ROBOT),3.10,python3.10-venv)
	@[ -x $(ROBOT)/bin/python ] || "$(PYTHON310)" -m venv $(ROBOT)
	@echo "sf_ros set-up: installing the robot's packages into $(ROBOT) (about 5 GB the first time, minutes) ..."
	@$(ROBOT)/bin/python $(PIP_INSTALL) -c constraints-robot.txt -e '.[cpu,yolo,people,calibrate,test]'
	@touch $@
	@echo "sf_ros set-up: done"

test-robot: $(ROBOT)/.installed
	$(ROBOT)/bin/python -m pytest $(PARALLEL) $(PYTEST_ARGS) $(ROBOT_TESTS)

python310:  # prints the robot's interpreter, or nothing
	@echo "$(PYTHON310)"

demo-bundle: setup
	$(VENV)/bin/python -m training.tools.demo_bundle sf_ros/demo

clean:
	rm -rf $(VENV) $(ROBOT) $(PEOPLE) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find sf_ros training export calibration tests -name __pycache__ -type d -prune -exec rm -rf {} +
