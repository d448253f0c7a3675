# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Reading captchas with CTC
#
# A folder of labelled captchas becomes a trained, tested and recorded model. On the way this notebook explains the idea that
# makes it possible, connectionist temporal classification (CTC), and shows every step of it on numbers that you can check.
#
# Nobody says where in the picture a character stands: a label is only a text. The network slices the picture into columns
# and names, for each, a character or nothing; CTC turns the slices into a text, and a text into a loss.

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
# Every field of `Config` can be given here by keyword, or from outside as an environment variable `CAPTCHA_<FIELD>`,
# which wins. Without data of your own, synthetic captchas are drawn.

# %% tags=["parameters"]
from helpers import Config

config = Config()  # for example Config(data="my-captchas", epochs=20, seed=1)
print(config)

# %% [markdown]
# ## The idea: from columns to text
#
# Call each column of the network's output a *frame*. In each frame the network chooses among the characters and one class
# more, the *blank*: "no character here". A *path* is one choice per frame. To turn a path into a
# text, runs of the same symbol collapse to one, and then the blanks are dropped.

# %%
from helpers.lessons import ctc as lessons

print(f"the blank is written {lessons.BLANK}")
for path in ("AAAB", "-A-B", "AB--", "A-AB", "AA-A"):
    print(path, "->", lessons.without_blanks(lessons.without_repeats(path)))

# %% [markdown]
# The order of the two steps matters. Dropping the blanks first, as is easily done, glues equal neighbours together, and
# every doubled letter is lost. How many captchas that would cost is counted below, with the data.

# %%
path = "AA-AB"
right = lessons.without_blanks(lessons.without_repeats(path))
wrong = lessons.without_repeats(lessons.without_blanks(path))
print(f"{path}: repeats collapsed first {right}, blanks dropped first {wrong}")
assert right == "AAB" and wrong == "AB"

# %% [markdown]
# Many paths say the same. Those that spell a text are its *alignments*: the text, stretched and spaced in every possible
# way. Here are all of a short one.

# %%
frames = 4
for text in ("AB", "AA"):
    found = lessons.alignments(text, frames)
    print(f"{text} in {frames} frames, {len(found)} alignments:", *found)
    assert len(found) == lessons.count_alignments(text, frames)

# %% [markdown]
# Every alignment of the doubled letter has a blank in its middle: without it the two would collapse into one. That is what
# the blank is for, and why a text with doubled letters needs more frames than it has characters. It also lets the network
# say nothing where there is nothing to say.

# %%
doubled = "AAB"
for frames in range(2, 8):
    print(f"{doubled} in {frames} frames: {lessons.count_alignments(doubled, frames)} alignments")
assert all("A-" in path for path in lessons.alignments(doubled, frames=5))
assert not lessons.alignments(doubled, frames=len(doubled))

# %% [markdown]
# ### The loss
#
# In every frame the network gives each class a probability. A path's probability is the product over its frames, and a
# text's is the sum over all its alignments: it does not matter where the characters stand, only that they come in this
# order. The CTC loss is minus the logarithm of that sum. The codec, which alone knows what the network's numbers mean, tells
# what each class spells.

# %%
import torch

from helpers.models.codec import CTCCodec

toy = CTCCodec("AB")
print({number: spelled or "(blank)" for number, spelled in enumerate(lessons.spelled(toy))})
torch.manual_seed(0)
logits = torch.randn(1, 5, toy.classes)  # of one picture; invented
print("probabilities, a row per frame, a column per class:", logits[0].softmax(-1), sep="\n")

# %% [markdown]
# Summed over all alignments, one by one, and by the library, which never lists them: it goes from frame to frame and keeps
# a sum for every beginning of the text.

# %%
from torch.nn import functional as F

log_probabilities = logits[0].log_softmax(-1)  # (T, K)
by_hand = -torch.tensor(lessons.brute_force_probability(log_probabilities, doubled, toy)).log()
target = torch.tensor([lessons.spelled(toy).index(character) for character in doubled])
frames, length = torch.tensor([len(log_probabilities)]), torch.tensor([len(doubled)])
library = F.ctc_loss(log_probabilities[:, None], target[None], frames, length, blank=toy.blank, reduction="sum")
print(
    f"-log P({doubled}) over {len(lessons.alignments(doubled, 5))} alignments {by_hand:.5f}, by F.ctc_loss {library:.5f}"
)
assert torch.isclose(by_hand, library) and torch.isclose(library / len(doubled), toy.loss(logits, [doubled]))

# %% [markdown]
# The library's way is not a matter of taste: the alignments of a whole captcha, over as many frames as a network gives, can
# be counted but not listed.

# %%
print(f"{lessons.count_alignments('8AE5T', frames=37):,} alignments of 8AE5T in 37 frames")

# %% [markdown]
# ## Data
#
# Most failures begin in the data, so it is looked at before the first epoch. Errors stop here, with the names of the
# files; warnings say which setting would help, and nothing is changed unless you set it. The same report comes from
# `python -m helpers audit FOLDER_ZIP_OR_CSV`.

# %%
from helpers import load_data

data = load_data(config)
print(data.audit)

# %% [markdown]
# The side of a captcha follows from its text and the seed alone: no text stands on two sides, and captchas added later
# move no other. The doubled letters are those that the wrong order of the two steps would lose.

# %%
print(data)
texts = [text for side in data.sides.values() for text in side.texts]
lost = sum(lessons.without_repeats(text) != text for text in texts)
print(f"with a doubled letter: {lost} of {len(texts)} texts")
assert data.shared or not set(data.train.texts) & set(data.test.texts)

# %% [markdown]
# Do the texts belong to the pictures?

# %%
from helpers.plots import readings as plots

plots.contact_sheet(data.train.samples, data.train.images)

# %% [markdown]
# ## The network
#
# The picture, slice by slice: what each stage makes of one captcha, seen by hooks while the network runs. Dimensions are
# (batch, channels, height, width) of pictures and (batch, frames, values) of columns. The convolutions see shapes, the
# layers after them see each column among its neighbours, and the head gives a number to every class in every frame.

# %%
from helpers.training.trainer import build

module = build(config, data)
images, texts = next(iter(data.val_dataloader()))
print(lessons.stages(module.network, images[:1]))

# %% [markdown]
# The last shape is (batch, frames, classes). Every text must fit into the frames; `build` has checked that for each label.
# Below, the classes as the codec reads them, and the text that needs the most frames. Its alignments could be counted but
# not listed: this is why the library goes from frame to frame instead.

# %%
print("classes:", " ".join(spelled or "(blank)" for spelled in lessons.spelled(module.codec)))
_, frames, classes = module(images).shape
longest = max(data.train.texts, key=module.codec.steps)
print(f"{longest} needs {module.codec.steps(longest)} of {frames} frames", end=" ")
print(f"and has {lessons.count_alignments(longest, frames):,} alignments in them")
assert classes == module.codec.classes

# %% [markdown]
# ## One batch, by heart
#
# Before a long training, a short one that any sound network passes: the same few pictures at every step, until it knows
# them by heart. Where it never does, the loss, the labels or the network is wrong, and more data will not help.
#
# It is done twice. With CTC alone a network learns first that saying nothing is cheap: a blank in every frame costs less
# than characters in the wrong places. On this *blank plateau* the loss hardly falls and every picture is read as nothing.
# How long it stays there depends on layers and pictures, and grows with their number. The second time the first steps pass
# from a simpler loss to CTC: the characters of the text, spread evenly over the frames, one class per frame, no blanks. That
# is a rough guess at where they stand, and enough to begin with; meanwhile the CTC loss may well rise. Weights that were
# trained elsewhere (`pretrained`) are off the plateau already: then there is no warm-up, and both times are the same.

# %%
from helpers.lessons import trials

images, texts = trials.one_batch(data, pictures=4 if config.tiny else 16)
steps = 30 if config.tiny else 120
shares = {"CTC alone": 0, "with the warm-up": data.recipe.warmup_share}  # of the steps
trainings = {}
for name, share in shares.items():
    module = build(config, data)
    trainings[name] = trials.memorise(module, images, texts, steps, share)
trials.memorise_figure(trainings, len(images))

# %%
for name, rows in trainings.items():
    silent = sum(row["silent"] == len(images) for row in rows)
    print(f"{name}: all {len(images)} read as nothing for {silent} steps, all right", end=" ")
    print(trials.first_step(rows, "right", len(images)))
assert all(rows[-1]["loss"] < rows[0]["loss"] for rows in trainings.values())

# %% [markdown]
# ## Training
#
# Now with all training pictures, each a little different every time. The first part of the training passes from the simpler
# loss to CTC, as above. What is validated after each epoch is a running average of the weights. The latest one that reads
# as well as the best, within what chance allows, is kept, tested once and recorded as one MLflow run.
#
# An interrupted training goes on in the same run when the notebook is run again with the same settings and captchas.

# %%
from helpers import pack_record, train
from helpers.experiment import readings_figure

result = train(config, data, notebook="train_ctc")
assert len(result.history) >= 1 and (result.model / "model_weights.pth").is_file()

# %% [markdown]
# On the left the loss, on the right what it is for. *Exact match* is the share of captchas read whole; the *character error
# rate* counts how many characters would have to be changed, added or removed, as a share of all.

# %%
from helpers.plots.training import curves

curves(result.history)

# %% [markdown]
# ## How well it reads
#
# The test side was not looked at until now. A share alone says little: the interval tells what this number of captchas
# allows to claim. Doubled letters, which a wrong decoder loses, are counted separately.

# %%
print(result.score)
assert result.score.n == len(data.test)

# %% [markdown]
# The wrong readings that the network was surest of come first, then the right ones it was least sure of.

# %%
readings_figure(data.test, result.readings)

# %% [markdown]
# ## What it looked at
#
# Nobody told the network where the characters stand. Yet each frame of the path it chose names a character or the blank, and
# the frames share the width of the picture: every character of a reading has a place. First a captcha with a doubled letter,
# where the test side has one. The path collapses to the reading exactly as at the beginning of this notebook.

# %%
from helpers.evaluation.answers import answers_of
from helpers import Reader

reader = Reader.load(result.model)
answers = answers_of(reader, data.test)
texts = data.test.texts
doubled = next((i for i, text in enumerate(texts) if lessons.without_repeats(text) != text), 0)
frames, probabilities = answers.frames(doubled, reader.temperature)
print("".join(frame or lessons.BLANK for frame in frames), "->", result.readings[doubled].text)
assert lessons.without_repeats(frames) == result.readings[doubled].text  # a blank is "" here

# %%
from helpers.plots import confidence as confidence_plots

confidence_plots.looked_at(data.test.images[doubled], frames, probabilities)

# %% [markdown]
# Then the captcha that it was least sure of. Low bars show which of the characters it hesitated over.

# %%
least = min(range(len(texts)), key=lambda index: result.readings[index].confidence)
print(f"truth {texts[least]}, read {result.readings[least].text}")
confidence_plots.looked_at(data.test.images[least], *answers.frames(least, reader.temperature))

# %% [markdown]
# ## Where it errs
#
# Truth and reading are aligned by edit distance, so that a lost character is told from a wrong one. Look for pairs that
# people confuse as well: no training will part two characters that a font draws alike.

# %%
from helpers.text import metrics

readings = [reading.text for reading in result.readings]
plots.confusion_bars(metrics.confusions(readings, data.test.texts))

# %% [markdown]
# ## How sure it is
#
# The confidence of a reading is its probability, summed over all its alignments, once the network's numbers were divided by
# a *temperature*, which brings the confidences as near to the share that is right as one number can. Who accepts only sure
# readings and leaves the rest to a person needs a threshold. Both are chosen on the validation side and judged here on the
# test side.

# %%
print(result.calibration)
assert result.calibration.n == len(data.test)

# %%
confidences = [reading.confidence for reading in result.readings]
confidence_plots.risk_coverage_curve(confidences, answers.right, result.calibration.acceptances)

# %% [markdown]
# ## Take it home
#
# The whole record - metrics, weights, code, figures - in one file. The notebook `mlflow_dashboard` opens it, `evaluate`
# asks it further questions.

# %%
archive = pack_record(config)
print(f"read with the model: python -m helpers read IMAGE_OR_FOLDER --model {result.model}")
session.download_link(archive)
