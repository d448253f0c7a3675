# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How good is it, and where is it wrong?
#
# Chooses the best run of the record by its validation result, or the model that `model` names, and judges it on captchas
# that it was not trained on.

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

# %% [markdown]
# ## Configuration
#
# `model` names a model folder or is left out for the best run; `data` names other captchas than the run's own.

# %% tags=["parameters"]
from helpers.config import Config

config = Config()  # for example Config(model="work/model", data="new-captchas")
print(config)

# %% [markdown]
# ## Which model, which captchas

# %%
from helpers import evaluation, metrics, plots
from helpers.experiment import readings_figure

kaggle.bring_record(config.work)  # of a training notebook whose output is attached on Kaggle
run = evaluation.choose_run(config)
reader = evaluation.load_reader(config, run)
test = evaluation.unseen(config, run, reader)
print(run.info.run_name if run else config.model, "-", len(test), "captchas out of", reader.codec.charset)

# %% [markdown]
# ## How good is it?
#
# A share alone says little: the interval tells what the number of captchas allows to claim.

# %%
readings = reader.read_prepared(test.images)
texts = [reading.text for reading in readings]
score = metrics.score(texts, test.texts)
print(score)
assert score.n == len(test) and score.exact_low <= score.exact <= score.exact_high

# %% [markdown]
# ## Which characters are confused?
#
# Truth and reading are aligned by edit distance, so that a lost character is told from a wrong one.

# %%
plots.confusion_bars(metrics.confusions(texts, test.texts))

# %%
plots.confusion_matrix(texts, test.texts)

# %% [markdown]
# ## Where is it wrong?
#
# The wrong readings that the model was surest of come first, then the right ones it was least sure of.

# %%
readings_figure(test, readings)
