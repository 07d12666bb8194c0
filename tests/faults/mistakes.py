"""Command lines with errors, in every command."""

from __future__ import annotations

MISTAKES = """
rum
run --quik
RUN --steps x
RUN --steps 9-1
RUN --steps 1-
RUN --steps 1-9999999999
RUN --tasks ,
RUN --layers up99
RUN --batch 99999999999999999999
RUN --threads 99999999999999999999
RUN --sampler-steps 99999999999999999999
RUN --guidance 1e300
RUN --guidance=-1e300
RUN --guidance nan
RUN --part 9/1
RUN --baselines x
RUN --depth-scale 1
RUN --depth-scale a,b
RUN --prompts /nowhere
RUN --out /proc/x
RUN --out FOLDER
RUN --out /dev/null
RUN --model a/b/c
RUN --model NOT-UTF-8
RUN --dataset NOT-UTF-8
RUN --dataset /
RUN --fetch
RUN --config /
RUN --config NOT-UTF-8
RUN --weights none
RUN --labeler midas
leaderboard
leaderboard /nowhere
leaderboard NOT-UTF-8
report /
report FOLDER --poster /nowhere/x.png
report FOLDER --poster /tmp/x.unknown
compare FOLDER
compare FOLDER /nowhere
compare FOLDER FOLDER --fail-on x:y
compare FOLDER FOLDER --fail-on :
compare FOLDER FOLDER --fail-on dice:nan
merge /
intervene FOLDER --items 1
intervene FOLDER --methods x
intervene FOLDER --strengths 0
intervene FOLDER --steps 77
intervene FOLDER --layers up9
intervene FOLDER --task x
intervene FOLDER --gif x.gif
intervene FOLDER --path circle --frames 1
EDIT --path square
EDIT --shifts 100000
EDIT --threads -1
EDIT --strengths 1e300
adam-vs-ridge FOLDER --cells 0
adam-vs-ridge FOLDER --epochs -1
profile --batch x
profile --batch 0
profile --engines x
profile --threads 99999999999999999999
parity --items 0
calibration --cells 1
calibration --run /nowhere
card --limit -1
list x
RUN --layers ,
RUN --baselines ,
RUN --quik
intervene FOLDER --strengths 8,8
intervene FOLDER --strengths 8 --strengths 16
intervene FOLDER --strengths =16
intervene FOLDER --controlnet /nowhere --methods pattern
intervene FOLDER --path circle --gif x.png
intervene FOLDER --map --figure x.gif
claim run --all readable-by-step-5
claim run edits-move-the-object --sampler-steps 3
claim run readable-by-step-5 --model ,
claim check FOLDER --claims ,
claim check FOLDER --json /proc/x.json
leaderboard FOLDER --across ,
leaderboard FOLDER --hub-model tiny
leaderboard /proc
plan --gpu ,
plan --model /etc/passwd
across FOLDER FOLDER
across FOLDER FOLDER --items 0 --threads 1
across FOLDER --out /proc/x
doctor --measure --out /proc/x.json
dataset audit --show -1
dataset agreement --labelers , --images /nowhere
card --sheet x.gif
card --controlnet /nowhere
card --pipelines /nowhere
report FOLDER --heatmap x.gif
submit FOLDER --ledger /proc/x
profile --engines ,
"""
"""Command lines with errors; the first one is empty."""
