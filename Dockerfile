# docker build -t cnn-lstm .                                       for CPUs
# docker build -t cnn-lstm --build-arg BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04 --build-arg TORCH=default .
# docker run --rm -v "$PWD/runs:/project/runs" cnn-lstm               the quickstart
# docker run --rm -v "$PWD:/project" cnn-lstm cnn-lstm fit --config mine.yaml
ARG BASE=ubuntu:24.04
FROM ${BASE}
ARG TORCH=cpu

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/cnn_lstm
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE Makefile constraints.txt ./
COPY tools ./tools
COPY configs ./configs
COPY cnn_lstm ./cnn_lstm
RUN make TORCH=${TORCH} .venv/.installed

ENV PATH=/opt/cnn_lstm/.venv/bin:$PATH
WORKDIR /project
CMD ["sh", "-c", "cnn-lstm fit --config quickstart --run_dir runs/quickstart && cnn-lstm test --config runs/quickstart/config.yaml --ckpt_path best"]
