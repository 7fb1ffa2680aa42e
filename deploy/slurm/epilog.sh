#!/bin/bash
# Epilog in slurm.conf: removes the entries of runs that ended on this node without removing them, such as after
# SIGKILL. An epilog that fails drains its node, and one that waits blocks it: this one does neither.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin # Slurm gives an epilog hardly any environment, and no PATH
targets=${RL_TARGETS:-/shared/rl/targets}
exporter=${RL_EXPORTER:-/opt/rl/bin/rl-exporter}
client=${RL_HTTP_CONFIG:-} # for runs behind TLS or a password: a file for --http.config.file (docs/access.md)

# As the owner of the job: root may not remove the files of others on most shared file systems.
as=()
if [[ $EUID == 0 && -n ${SLURM_JOB_USER:-} ]]; then as=(runuser -u "$SLURM_JOB_USER" --); fi
asking=()
if [[ -n $client ]]; then asking=(--http.config.file "$client"); fi
timeout --kill-after 5 30 "${as[@]}" "$exporter" targets prune "$targets" --timeout 2 "${asking[@]}"
exit 0
