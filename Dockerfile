# syntax=docker/dockerfile:1
# What docker-compose.yml runs, with exactly the versions of requirements.lock.
#
#   --target label-studio   Label Studio
#   --target backend        the ML backend, workers, Dask and TensorBoard, on CPUs;
#                           with --build-arg TORCH_INDEX=https://pypi.org/simple on NVIDIA GPUs
#
# Processes run as user 10001 and write to volumes and /tmp only.
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS build
# For the few packages that come as source.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends build-essential \
 && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY . .

FROM build AS build-label-studio
RUN pip install -c requirements.lock . label-studio gunicorn

FROM build AS build-backend
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install -c requirements.lock --extra-index-url "$TORCH_INDEX" \
    '.[ml,models,formats]' supervisor

FROM python:${PYTHON} AS runtime
# Named volumes take over the owner of the folders that they are mounted on.
RUN useradd --uid 10001 --home-dir /tmp --no-create-home biosegment \
 && install --directory --owner=10001 --group=10001 /data /label-studio
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /tmp

FROM runtime AS label-studio
COPY --from=build-label-studio /opt/venv /opt/venv
EXPOSE 8080
HEALTHCHECK --start-period=5m CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://localhost:8080/health', timeout=5)"]
CMD ["label-studio", "start", "--no-browser", "--port", "8080"]

FROM runtime AS backend
COPY --from=build-backend /opt/venv /opt/venv
EXPOSE 9090
HEALTHCHECK --start-period=1m CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://localhost:9090/health', timeout=5)"]
CMD ["gunicorn", "--config", "python:ml_backend.http_server", "ml_backend.wsgi:app", "--bind", "0.0.0.0:9090"]
