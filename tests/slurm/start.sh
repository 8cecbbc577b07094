#!/usr/bin/env bash
# Starts a Slurm of one node in a folder, with two partitions and without an accounting database. Needs root and Debian's
# packages slurm-wlm and munge. Its configuration is linked to where Slurm looks for it: jobs that submit steps do not
# inherit SLURM_CONF. A machine that has one already is left alone.
#   tests/slurm/start.sh FOLDER
#   tests/slurm/start.sh --stop FOLDER
set -euo pipefail
if [ "$1" = --stop ]; then
  for name in slurmd slurmctld munged; do
    [ ! -f "$2/$name.pid" ] || kill "$(cat "$2/$name.pid")" 2>/dev/null || true
  done
  for name in slurm cgroup; do
    [ "$(readlink "/etc/slurm/$name.conf")" != "$(realpath "$2")/$name.conf" ] || rm "/etc/slurm/$name.conf"
  done
  exit 0
fi
if [ -e /etc/slurm/slurm.conf ]; then
  echo "this machine has a Slurm: /etc/slurm/slurm.conf" >&2
  exit 1
fi
folder=$(realpath "$1")
host=$(hostname -s)
mkdir -p "$folder/state" "$folder/spool" "$folder/run"
chmod 755 "$folder"
dd if=/dev/urandom of="$folder/munge.key" bs=1024 count=1 status=none
chmod 600 "$folder/munge.key"
sed -e "s|@FOLDER@|$folder|g" -e "s|@HOST@|$host|g" -e "s|@CPUS@|$(nproc)|g" \
  -e "s|@MEMORY@|$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)|g" \
  "$(dirname "$0")/slurm.conf" > "$folder/slurm.conf"
printf 'CgroupPlugin=autodetect\n' > "$folder/cgroup.conf"
mkdir -p /etc/slurm
ln -sf "$folder/slurm.conf" "$folder/cgroup.conf" /etc/slurm/
munged --force --key-file="$folder/munge.key" --socket="$folder/run/munge.socket" --pid-file="$folder/munged.pid" \
  --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
slurmctld
slurmd
for _ in $(seq 60); do
  sinfo --noheader --format=%T 2>/dev/null | grep -q idle && exit 0
  sleep 0.5
done
echo "Slurm did not come up; its logs are in $folder" >&2
exit 1
