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
# This notebook opens a record: `mlruns.zip` as downloaded from Kaggle, or the folder `mlruns` of a training on this
# machine. It makes the record's locations right, lists the runs, and starts MLflow's dashboard.
#
# As a script: `python notebooks/mlflow_dashboard.py [mlruns.zip or folder] [--anyway]`.

# %% [markdown]
# ## Setup
#
# The notebook is thin: what it calls lives in `helpers`, found beside it, in the cells that the Kaggle build adds, or in an
# attached data set. On Kaggle this installs what the image lacks, and says what the session has.

# %%
import sys
from itertools import chain
from pathlib import Path

beside = [Path.cwd(), *Path.cwd().parents, *Path(globals().get("__file__", "_")).resolve().parents, Path("captcha-ocr")]
attached = (file.parents[1] for d in range(1, 6) for file in Path("/kaggle/input").glob("*/" * d + "helpers/config.py"))
root = next((place for place in chain(beside, attached) if (place / "helpers" / "config.py").is_file()), None)
assert root, (
    "`helpers` is not here: use the notebook that `python -m helpers.kaggle build` makes, or attach the project"
)
sys.path.insert(0, str(root.resolve()))

from helpers import kaggle

kaggle.prepare()

# %%
import pandas

from helpers import plots
from helpers.config import Config
from mlruns_tools import dashboard as tools

# %% [markdown]
# ## Which record
#
# The one named on the command line, or else the one in the output folder of the trainings (`CAPTCHA_WORK`). Before the
# first training there is none; a small demonstration then stands in for it, and the cell says so.
# To see another record from inside the notebook, replace the call by a path.

# %%
config = Config()
kaggle.bring_record(config.work)  # of a training notebook whose output is attached on Kaggle
arguments = tools.arguments()
source = tools.chosen_record(arguments.source, config.work / "mlruns")
print(source)

# %% [markdown]
# ## Make its locations right
#
# MLflow stores absolute locations. In a record that was moved they still point to where it was written: the metrics
# show, the artifacts do not. The repair rewrites the locations and nothing else; done twice it changes nothing more.

# %%
report = tools.repair_if_needed(source)
print(report.summary)

# %% [markdown]
# ## The runs
#
# The newest runs side by side: status, last values of the metrics, parameters. Then their curves, epoch by epoch.

# %%
newest = tools.runs_table(report.root)[:5]
print(pandas.DataFrame(newest).T.to_string(header=False))
assert newest, "the record holds no run"

# %%
plots.compare_runs({metric: tools.histories(report.root, metric) for metric in ("val_loss", "val_exact")})

# %% [markdown]
# ## The dashboard
#
# MLflow's server runs on this machine and answers to this machine only. On Kaggle no browser can reach it: download
# `mlruns.zip` there and open it with this notebook at home. A record that names places outside of itself is not opened, one
# of which artifacts are missing only when told (`--anyway`).

# %%
dashboard = None if tools.on_kaggle() else tools.open_dashboard(report.root, anyway=arguments.anyway)
if dashboard:
    print("Open", dashboard.link)
    for name, link in dashboard.run_links().items():
        print(name, link)

# %% [markdown]
# As a script this waits until Ctrl-C. In a notebook the dashboard runs on until you run the cell a second time, or end
# the kernel; in tiny mode it stops at once.

# %%
if dashboard:
    dashboard.finish(at_once=config.tiny)
