# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How good is it, and is it better than another?
#
# Chooses runs of the record, or the model that `model` names, and judges them on captchas that none of them was trained on.
# Each heading is a question; the cell below it answers with numbers and one figure.

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

# %% [markdown]
# ## Configuration
#
# `runs` names the runs to judge, by id or name; left out, the best one by its validation result is taken, and others that were
# tested on the same captchas. `model` names a model folder instead, `data` other captchas than the best run's test side.

# %% tags=["parameters"]
from helpers import Config

config = Config()  # for example Config(runs="4f2a91c0, wide net", data="new-captchas")
print(config)

# %% [markdown]
# ## Which models, on which captchas?
#
# What a model was trained on is no test for it. The split list of each run tells which images and texts that were; they
# are left out and named, and where they are most of the captchas, the cell refuses.

# %%
from helpers.evaluation import trial as evaluation

session.bring_record(config.work)  # of a training notebook whose output is attached on Kaggle
trial = evaluation.judge(config)
print(trial)
test, readings = trial.test, trial.readings[0]  # of the first model, the best by validation

# %% [markdown]
# ## How good is it?
#
# A share alone says little: the interval tells what the number of captchas allows to claim. Captchas with doubled letters
# stand apart, since a CTC network that merges repeats wrongly loses just those.

# %%
from helpers.plots import readings as plots
from helpers.text import metrics

texts = [reading.text for reading in readings]
score = metrics.score(texts, test.texts)
print(score)
assert score.n == len(test) and score.exact_low <= score.exact <= score.exact_high
plots.shares(metrics.right_of(texts, test.texts), f"{trial.models[0].name}: whole captchas read right", "captchas")

# %% [markdown]
# ## How sure is it?
#
# A confidence can be trusted where it is right as often as it says: then the points lie on the dashed line. Their mean distance
# from it is the expected calibration error (ECE).

# %%
from helpers.evaluation import calibration
from helpers.plots import confidence as confidence_plots

right = [text == truth for text, truth in zip(texts, test.texts, strict=True)]
confidences = [reading.confidence for reading in readings]
print(f"expected calibration error: {100 * calibration.expected_calibration_error(confidences, right):.2f} %")
confidence_plots.reliability_diagram({trial.models[0].name: confidences}, right)

# %% [markdown]
# ## Which readings can be accepted?
#
# Who accepts only what is read surely, and asks again for the rest, has fewer errors on fewer images. The thresholds were
# chosen on the run's validation side; what they give on these captchas is printed and marked.

# %%
accepted = evaluation.acceptances(trial)
print(*accepted or ["the run recorded no thresholds"], sep="\n")
confidence_plots.risk_coverage_curve(confidences, right, accepted)

# %% [markdown]
# ## Where is it wrong?
#
# The wrong readings that the model was surest of come first, then the right ones it was least sure of.

# %%
from helpers.experiment import readings_figure

readings_figure(test, readings)

# %% [markdown]
# ## Which characters does it confuse?
#
# Truth and reading are aligned by edit distance, so that a lost character is told from a wrong one.

# %%
confused = metrics.confusions(texts, test.texts)
print(confused.total(), "wrong, lost or added characters of", sum(map(len, test.texts)))
plots.confusion_bars(confused)

# %% [markdown]
# ## Is A better than B?
#
# The models have read the same captchas, so that only those count which one of two reads and the other does not. McNemar's
# test tells how often chance alone would spread them as unevenly; overlapping intervals do not answer that.

# %%
from helpers.evaluation import comparison

compared = comparison.compare(trial)
print(compared)
assert compared.scores[0].exact == score.exact or compared.folded
plots.shares(compared.shares, f"Whole captchas read right, of the same {len(test)}", "model")
