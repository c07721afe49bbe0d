# One virtual environment, .venv, holds everything. Each target sets it up first where that is still to be done.
# `make VARIABLE=value` overrides: PYTHON (3.10 to 3.12), TORCH (a pip requirement), OMP_NUM_THREADS, FUZZ_INPUTS.

VENV := .venv
READY := $(VENV)/.ready
TORCH_VERSION := 2.13.0
CPU_WHEELS := https://download.pytorch.org/whl/cpu

# The first interpreter that runs and is of a supported version. 3.11 and 3.10 come first: the sparse convolutions of 3.12
# need a GPU to train (setup.py).
PYTHON ?= $(shell for name in python3.11 python3.10 python3 python3.12; do \
	$$name -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$name && break; done)

# PyPI's torch brings CUDA along, gigabytes that a machine without an NVIDIA GPU has no use for. pip chooses the release of
# torchvision that belongs to it.
TORCH ?= torch==$(TORCH_VERSION)$(if $(shell command -v nvidia-smi),,+cpu)

# Damaged inputs per codec and reader in `make fuzz`.
FUZZ_INPUTS ?= 100000

# One thread per model: two models at work on few cores only wait for one another.
export OMP_NUM_THREADS ?= 1
# .venv has PyPI's rclpy, with Fast DDS as its one middleware; a sourced ROS distribution's modules and libraries are not its own.
export RMW_IMPLEMENTATION := rmw_fastrtps_cpp
unexport AMENT_PREFIX_PATH PYTHONPATH
ifdef ROS_DISTRO
unexport LD_LIBRARY_PATH
endif

.PHONY: demo test bench soak fuzz lint clean

demo: $(READY)
	$(VENV)/bin/tttkd demo

test: $(READY)
	$(VENV)/bin/pytest -n 2 --dist loadfile

bench: $(READY)
	$(VENV)/bin/python benchmarks

# Ten thousand sweeps, many of them damaged, while faults of every kind are injected.
soak: $(READY)
	PYTHONPATH=test $(VENV)/bin/python -m soak

# Takes hours on two cores, because each codec and reader gets far more inputs than in `make test`.
fuzz: $(READY)
	FUZZ_INPUTS=$(FUZZ_INPUTS) $(VENV)/bin/pytest -n 2 --dist worksteal --timeout 0 --hypothesis-show-statistics test/fuzz

lint: $(READY)
	$(VENV)/bin/ruff check .

clean:
	rm -rf $(VENV) build install log dist *.egg-info demo_output bench_output .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Editable, so that a change of the code takes effect at once; again when what to install has changed.
$(READY): setup.py setup.cfg pyproject.toml package.xml
	@test -n "$(PYTHON)" || { echo "No Python 3.10, 3.11 or 3.12 found: install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet "$(TORCH)" torchvision || { echo "Not on the configured index: trying $(CPU_WHEELS)"; \
		$(VENV)/bin/pip install --quiet "$(TORCH)" torchvision --extra-index-url $(CPU_WHEELS); }
	$(VENV)/bin/pip install --quiet --editable '.[ros,openvino,efficientnet,dev]'
	touch $@
