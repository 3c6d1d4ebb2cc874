#!/bin/bash
# A sweep on the machines of one Slurm allocation. The first of them runs Ray's head and the driver.
#   sbatch deploy/slurm.sh sweeps/imagenet_vit_l_14_336.yaml data.imagenet_root=DIR data.tokens_dir=DIR
# The arguments are those of `toconv sweep`. Run it in the repository, on a disk that all machines share, after `make
# install`; the home folder must be shared too, for Ray's token. MLFLOW_TRACKING_URI and the like are taken along. With
# store.local_cache_gb set TOCONV_CACHE to a folder of each machine's own disk: else the copies lie in the home folder.
# Two minutes before its time is over, Slurm sends SIGTERM to this script alone. It passes it on to the sweep, whose
# trials save at their next step, and has the job queued again, where the same command goes on. A trial that measures its
# epoch just then ends that first: where it takes longer than that, raise the number. The same where another job is wanted
# more, if Slurm's configuration has SlurmctldParameters=preempt_send_user_signal and a GraceTime; else Slurm ends Ray
# itself then, and trials go on from their last epoch.
# Checked by bash -n and shellcheck 0.11.0, and run under Slurm 22.05 with two machines that are one, without GPUs
# (tests/sweep/test_faults_of_slurm.py). Not run on real machines of a cluster.
#SBATCH --job-name=toconv
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

export PATH="$PWD/.venv/bin:$PATH"
export RAY_AUTH_MODE=token
start=(ray start --block --disable-usage-stats --num-cpus="$SLURM_CPUS_ON_NODE")
here=$(hostname --all-ip-addresses) # not the loopback address that Debian gives a machine's own name
here=${here%% *}
address="${here:-127.0.0.1}:6379"
others=$((SLURM_JOB_NUM_NODES - 1))
sweep='' stopped=''

# shellcheck disable=SC2329 # the trap calls it
stop() {
    stopped=yes
    if [[ -n $sweep ]]; then kill -TERM "$sweep" 2> /dev/null || true; fi
}

each() { # MACHINES OPTIONS COMMAND: once on each, with all that it has
    srun --nodes="$1" --ntasks="$1" --cpus-per-task="$SLURM_CPUS_ON_NODE" "${@:2}" &
}

trap stop TERM
trap 'jobs -p | xargs --no-run-if-empty kill 2> /dev/null || true' EXIT
(umask 077 && ray get-auth-token --generate > /dev/null)

each 1 --nodelist="$SLURMD_NODENAME" "${start[@]}" --head --node-ip-address="${address%:*}" --port=6379 --include-dashboard=false
if ! timeout 300 bash -c "until ray health-check --address $address; do sleep 1; done" &> /dev/null; then
    echo "Ray's head at $address did not answer within 5 minutes" >&2
    exit 4
fi
if ((others)); then each "$others" --exclude="$SLURMD_NODENAME" "${start[@]}" --address="$address"; fi
ALL='
import sys, time, ray
ray.init(sys.argv[1], logging_level="ERROR")
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    time.sleep(1)
'
if ! timeout 300 python -c "$ALL" "$address" "$SLURM_JOB_NUM_NODES"; then
    echo "not all of the $SLURM_JOB_NUM_NODES machines joined Ray within 5 minutes" >&2
    exit 4
fi
if [[ -n $stopped ]]; then
    scontrol requeue "$SLURM_JOB_ID"
    exit 130
fi

RAY_ADDRESS=$address toconv sweep "$@" &
sweep=$! code=0
wait "$sweep" || code=$?
if [[ -n $stopped ]]; then # the signal ended `wait` alone
    code=0
    wait "$sweep" || code=$?
fi
if [[ -n $stopped && $code == 130 ]]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
