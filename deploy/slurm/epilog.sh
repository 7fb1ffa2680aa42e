#!/bin/bash
# Epilog in slurm.conf: removes the entries of runs that ended on this node without removing them, such as after
# SIGKILL. An epilog that fails drains its node, and one that waits blocks it: this one does neither.
targets=${RL_TARGETS:-/shared/rl/targets}
exporter=${RL_EXPORTER:-/opt/rl/bin/rl-exporter} # Slurm gives an epilog hardly any environment, and no PATH

# As the owner of the job: root may not remove the files of others on most shared file systems.
as=()
if [[ $EUID == 0 && -n ${SLURM_JOB_USER:-} ]]; then as=(runuser -u "$SLURM_JOB_USER" --); fi
timeout --kill-after 5 30 "${as[@]}" "$exporter" targets prune "$targets" --timeout 2
exit 0
