# Trainer and exporter. Build argument TORCH_INDEX_URL: where torch comes from, such as the CPU index that
# pytorch.org names; left empty, the default index, whose torch brings CUDA (several GB).
ARG PYTHON_IMAGE=python:3.12.11-slim-bookworm
FROM ${PYTHON_IMAGE} AS build
ARG TORCH_INDEX_URL=""
WORKDIR /src
RUN python -m venv /opt/venv && python -m venv /opt/build
COPY constraints.txt ./
COPY deploy/image deploy/image
# What is installed has a known hash. Only a torch of another index has not: its files are others.
RUN if [ -n "$TORCH_INDEX_URL" ]; then \
        /opt/venv/bin/pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX_URL" "$(grep '^torch==' constraints.txt)"; \
    else \
        /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes -r deploy/image/torch.txt; \
    fi
RUN /opt/venv/bin/pip install --no-cache-dir --require-hashes -r deploy/image/requirements.txt \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r deploy/image/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
COPY training training
COPY prometheus prometheus
COPY alerts alerts
COPY grafana grafana
COPY deploy deploy
RUN /opt/build/bin/python -m hatchling build -t wheel -d /wheels \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps /wheels/*.whl \
    && /opt/venv/bin/pip check

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin rl
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 28008
ENTRYPOINT ["rl-train"]
