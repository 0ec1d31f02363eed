# The plugin with everything that it can use, on CUDA:
#
#   docker build -t admin-fairseq .
#   docker run --gpus all -v "$PWD:/work" admin-fairseq admin-fairseq --help
#
# "devel", because fairseq is built from source and Triton compiles its kernels with a C compiler.
ARG TORCH_IMAGE=pytorch/pytorch:2.6.0-cuda12.4-cudnn9-devel
FROM ${TORCH_IMAGE}

COPY . /src
RUN cd /src && pip install --no-cache-dir '.[all]' && rm -r /src
WORKDIR /work
