# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The record of your trainings, in MLflow
#
# Every training leaves a *run* in the record: its settings, its curves, its weights and figures, and the code that made
# them. This notebook opens a record: `mlruns.zip` as downloaded from Kaggle, or the folder `mlruns` of a training on this
# machine. It makes the record's locations right, shows the runs and their curves, and starts MLflow's dashboard, where the
# runs can be compared and their files opened.
#
# As a script: `python notebooks/mlflow_dashboard.py [mlruns.zip, folder or database]`; `--help` says what else.

# %% [markdown]
# ## Setup
#
# The notebook is thin: what it calls lives in `helpers`, found beside it, in the cell that the Kaggle build adds, or in an
# attached data set. On Kaggle this installs what the image lacks, and says what the session has.

# %%
import glob, sys

places = [sys.path[0] + "/..", ".", "..", "captcha-ocr", *glob.glob("/kaggle/input/**/helpers/..", recursive=True)]
sys.path[:0] = [p for p in places if glob.glob(p + "/helpers")] or sys.exit("see `python -m helpers kaggle build`")
from helpers.kaggle import session

session.prepare()

# %%
import pandas

from helpers import Config
from helpers.plots.training import compare_runs
from mlruns_tools import dashboard as tools

# %% [markdown]
# ## Which record
#
# The one named on the command line, or else the one in the output folder of the trainings (`CAPTCHA_WORK`). Before the
# first training there is none; a small demonstration then stands in for it, and the cell says so.
# To see another record from inside the notebook, replace the call by a path.

# %%
config = Config()
session.bring_record(config.work)  # of a training notebook whose output is attached on Kaggle
arguments = tools.arguments()
source = tools.chosen_record(arguments.source, config.work / "mlruns")

# %% [markdown]
# ## Make it right, and open it
#
# MLflow stores absolute locations. In a record that was moved they still point to where it was written: the metrics
# show, the artifacts do not. The repair rewrites the locations, makes again what MLflow needs beside them, and keeps a copy of
# what it changed; done twice it changes nothing more.
#
# MLflow's server then runs on this machine and answers to this machine only. On Kaggle no browser can reach it: download
# `mlruns.zip` there and open it with this notebook at home. A record that would show files of your machine that are none of
# it is not opened.

# %%
report = tools.repair_if_needed(source, arguments.maps)
print(tools.brief(report))
assert not tools.repair_if_needed(report.source, arguments.maps).changed

# %%
dashboard = None
if not tools.on_kaggle():
    dashboard = tools.open_dashboard(report.source, maps=arguments.maps)
    print("Open", dashboard.link, flush=True)
    tools.open_browser(dashboard.link) if arguments.browser and not config.tiny else None

# %% [markdown]
# The link opens the table of runs. What to do there:
#
# - Click a column's name to sort by it; *Columns* chooses what is shown.
# - Tick several runs and press *Compare*: their curves in one chart, and the parameters in which they differ.
# - Click a run, then *Model metrics* for its curves; *Search metric charts* with `val_` shows those of the validation.
# - *Artifacts* shows its files: `figures/readings.png` for what it read and where it erred, `predictions.csv` for every
#   reading of the test side, `data/audit.txt` for what it was trained on, `model` for the weights.

# %% [markdown]
# ## The runs
#
# The newest runs side by side. Look first at the status: a run that is not `FINISHED` was stopped, and its test is missing.
# Then at `test_exact` and its interval, from `test_exact_low` to `test_exact_high`: two runs whose intervals overlap widely
# may differ by luck.

# %%
newest = tools.runs_table(report.source)[:3]
table = pandas.DataFrame(tools.shortened(newest), columns=None if newest else ["run"]).T.fillna("")
results = table.filter(regex="^(run|id|status|epochs|best_.*|test_(?!share).*)$", axis="index")
print(results.to_string(header=False) if newest else "The record holds no run.")

# %% [markdown]
# Everything else in which they differ: among the settings should be the reason. What is not listed is the same in all of
# them; of a single run everything is listed.

# %%
others = table.drop(results.index)
different = others[(others.nunique(axis="columns", dropna=False) > 1) | (len(newest) == 1)]
print(different.to_string(header=False) if newest else "")

# %% [markdown]
# Their curves, epoch by epoch. A validation loss that rises while the training loss goes on falling says that the network
# learns its pictures by heart: more pictures or a stronger augmentation help, more epochs do not. A curve that still
# improves at its end asks for more epochs. One that never leaves the bottom is on the blank plateau, which `train_ctc` shows.

# %%
curves = {metric: tools.histories(report.source, metric) for metric in ("val_loss", "val_exact")}
compare_runs(curves)

# %% [markdown]
# What the newest run keeps, by folder: enough to see what it was trained on, to read with it, and to train it again.

# %%
for folder, names in tools.artifacts(report.source, newest[0]["id"]).items() if newest else ():
    print(f"{folder:<14}", ", ".join(names[:5]), f"and {len(names) - 5} more" * (len(names) > 5))

# %% [markdown]
# As a script this waits until Ctrl-C. In a notebook the dashboard runs on until you run the cell below a second time, or end
# the kernel; in tiny mode it stops at once.

# %%
if dashboard:
    dashboard.finish(at_once=config.tiny)
