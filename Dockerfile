# Two images: `edge`, with what a device and a tail server need, and `fedsim`, with all that trains and measures.
#   docker build --target edge .
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# Whoever runs it; --user chooses another. The folder is a volume that the containers of a run share.
RUN useradd --uid 1000 --create-home fedsim && mkdir -m 1777 /shared /certificates /key && mkdir -p /app/runs \
    && chown -R fedsim /app
WORKDIR /app
# A home that every user has.
ENV FEDSIM_SHARED=/shared HOME=/tmp

FROM base AS torch
# An index with CPU builds of torch; empty means the default index, whose Linux build brings CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt /tmp/
RUN python -m pip install ${TORCH_INDEX:+--index-url ${TORCH_INDEX}} -c /tmp/constraints.txt torch

FROM torch AS edge-requirements
COPY requirements/edge.txt /tmp/
RUN python -m pip install -c /tmp/constraints.txt -r /tmp/edge.txt

FROM edge-requirements AS edge
ENV PYTHONPATH=/opt/fedsim
COPY docker /docker
COPY edge /opt/fedsim/edge
RUN python -m compileall -q /opt/fedsim
USER fedsim

FROM edge-requirements AS fedsim
COPY requirements/fedsim.txt /tmp/
RUN python -m pip install -c /tmp/constraints.txt -r /tmp/fedsim.txt
COPY docker /docker
COPY LICENSE README.md pyproject.toml /opt/fedsim/
COPY requirements /opt/fedsim/requirements
COPY edge /opt/fedsim/edge
COPY fedsim /opt/fedsim/fedsim
RUN python -m pip install --no-deps -c /tmp/constraints.txt /opt/fedsim && rm -rf /opt/fedsim/build
# What the compiled parts of the simulator are kept in.
ENV NUMBA_CACHE_DIR=/tmp/numba MPLCONFIGDIR=/tmp/matplotlib
USER fedsim
