"""What an update measures of the policy: sums on the device, means on the host, payloads for the exporter."""
