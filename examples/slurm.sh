#!/bin/bash
# One GPU under Slurm, for as many time slices as the run needs:  sbatch examples/slurm.sh hands.toml
# Two minutes before the slice ends Slurm sends TERM to the step; sltdino saves, exits with 75 and the job is put back
# into the queue, where --resume auto goes on from there. Any other end is final: 0 done, 3 diverged, 65 bad data, ...
#SBATCH --job-name=sltdino
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

config=${1:?name the settings file: sbatch examples/slurm.sh hands.toml}

srun sltdino pretrain hands --config "$config" --resume auto
code=$?
if [ "$code" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
