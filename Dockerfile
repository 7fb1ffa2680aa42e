# Trainer and exporter. Build argument TORCH_INDEX_URL: where torch comes from, such as the CPU index that
# pytorch.org names; left empty, the default index, whose torch brings CUDA (several GB).
FROM python:3.12.11-slim-bookworm AS build
ARG TORCH_INDEX_URL=""
WORKDIR /src
RUN python -m venv /opt/venv
COPY constraints.txt ./
RUN torch="$(grep '^torch==' constraints.txt)" \
    && /opt/venv/bin/pip install --no-cache-dir ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "$torch"
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
COPY training training
COPY prometheus prometheus
COPY alerts alerts
COPY grafana grafana
COPY deploy deploy
RUN /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt '.[training]'

FROM python:3.12.11-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin rl
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 28008
ENTRYPOINT ["rl-train"]
