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
# Ray's head listens at a port of the job's own, 20000 to 29998 by the job's number, and Ray's client at the next one; the
# other ports are free ones that the system gives. A head that does not start, or a port that something has, ends the job
# (4): submitted anew it has another number and port.
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
start=(ray start --block --disable-usage-stats --num-cpus="$SLURM_CPUS_ON_NODE" --labels="slurm_job=$SLURM_JOB_ID")
here=$(hostname --all-ip-addresses) # not the loopback address that Debian gives a machine's own name
here=${here%% *}
here=${here:-127.0.0.1}
port=$((20000 + 2 * (SLURM_JOB_ID % 5000))) # below those that the system gives out
address=$here:$port
others=$((SLURM_JOB_NUM_NODES - 1))
rays=()
sweep='' stopped='' told=''

# shellcheck disable=SC2329 # the trap calls it
stop() {
    stopped=yes
    if [[ -n $sweep ]]; then
        told=yes
        kill -TERM "$sweep" 2> /dev/null || true
    fi
}

each() { # MACHINES OPTIONS COMMAND: once on each, with all that it has
    srun --nodes="$1" --ntasks="$1" --cpus-per-task="$SLURM_CPUS_ON_NODE" "${@:2}" &
    rays+=("$!")
}

fail() {
    echo "$1" >&2
    exit 4
}

rays_run() {
    for ray in "${rays[@]}"; do
        kill -0 "$ray" 2> /dev/null || fail "Ray ended before the sweep began (its head is at $here, ports $port and $((port + 1))); why stands above"
    done
}

await() { # WHAT COMMAND: until it ends well, at most 5 minutes
    timeout 300 "${@:2}" &
    local waits=$!
    while kill -0 "$waits" 2> /dev/null; do
        rays_run
        sleep 1
    done
    wait "$waits" || fail "$1 within 5 minutes"
    rays_run
}

trap stop TERM
trap 'jobs -p | xargs --no-run-if-empty kill 2> /dev/null || true' EXIT
(umask 077 && ray get-auth-token --generate > /dev/null)

if (exec 3<> "/dev/tcp/$here/$port") 2> /dev/null; then
    fail "port $port of $here is taken, which is Ray's in this job by its number; submit it anew for another"
fi
head=(--head --node-ip-address="$here" --port="$port" --include-dashboard=false)
if python -c 'import grpc' 2> /dev/null; then head+=(--ray-client-server-port=$((port + 1))); fi
each 1 --nodelist="$SLURMD_NODENAME" "${start[@]}" "${head[@]}"
await "Ray's head at $address did not answer" bash -c "until ray health-check --address $address; do sleep 1; done &> /dev/null"
if ((others)); then each "$others" --exclude="$SLURMD_NODENAME" "${start[@]}" --address="$address"; fi
ALL='
import sys, time, ray
ray.init(sys.argv[1], logging_level="ERROR")
while sum(node["Alive"] and node["Labels"].get("slurm_job") == sys.argv[2] for node in ray.nodes()) < int(sys.argv[3]):
    time.sleep(1)
'
await "not all of the $SLURM_JOB_NUM_NODES machines joined Ray" python -c "$ALL" "$address" "$SLURM_JOB_ID" "$SLURM_JOB_NUM_NODES"
if [[ -n $stopped ]]; then
    scontrol requeue "$SLURM_JOB_ID"
    exit 130
fi

RAY_ADDRESS=$address toconv sweep "$@" &
sweep=$! code=0
if [[ -n $stopped && -z $told ]]; then stop; fi # a signal of the moment before did not reach it
wait "$sweep" || code=$?
if [[ -n $stopped ]]; then # the signal ended `wait` alone
    code=0
    wait "$sweep" || code=$?
fi
# 143: the signal came before toconv heard of any
if [[ -n $stopped && ($code == 130 || $code == 143) ]]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
