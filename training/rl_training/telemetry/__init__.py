"""What an update measures: sums on the device, means on the host, payloads for the exporter."""
