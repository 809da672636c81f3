#!/usr/bin/env bash
# What the tests of this plugin need on Debian or Ubuntu: SLURM's daemons and commands, and munge. None is started.
set -euo pipefail
command -v slurmctld slurmd sbatch munged > /dev/null && exit 0
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends slurmctld slurmd slurm-client munge
