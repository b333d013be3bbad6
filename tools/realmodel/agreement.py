"""Compares two sets of logits over the same tokens. It works row by row, since a set may take a gigabyte."""

import dataclasses

import numpy

from . import InputError


def relative(ours, theirs):
    return float(numpy.linalg.norm(ours - theirs) / numpy.linalg.norm(theirs))


def log_share(row, index):
    """Returns the natural logarithm of the probability that softmax gives to `index`."""
    row = row.astype(numpy.float64)
    top = row.max()
    return float(row[index] - top - numpy.log(numpy.exp(row - top).sum()))


def perplexity(logits, ids):
    """Returns the perplexity of ids[1:], each predicted by the logits of the token before it."""
    return float(numpy.exp(-numpy.mean([log_share(row, index) for row, index in zip(logits, ids[1:])])))


@dataclasses.dataclass(frozen=True)
class Agreement:
    largest: float  # largest difference of one logit
    relative: float  # relative difference, in the L2 norm
    same_next: float  # share of positions where both have the same most likely token
    ppl_ours: float
    ppl_theirs: float

    def __str__(self):
        return (f"logits: largest difference {self.largest:.2e}, relative {self.relative:.2e}, "
                f"same next token at {self.same_next:.2%} of the positions\n"
                f"perplexity: {self.ppl_ours:.6f}, theirs {self.ppl_theirs:.6f}")


def compare(ours, theirs, ids):
    """Compares two arrays of logits, both [tokens, vocabulary]."""
    if ours.shape != theirs.shape or len(ours) != len(ids) or len(ids) < 2:
        raise InputError(f"logits of shapes {list(ours.shape)} and {list(theirs.shape)} for {len(ids)} tokens; "
                         "expected two equal shapes, with a row for each token and at least two tokens")
    largest, difference, size, same = 0.0, 0.0, 0.0, 0
    for row, other in zip(ours, theirs):
        apart = row.astype(numpy.float64) - other
        largest = max(largest, float(numpy.abs(apart).max()))
        difference += float(apart @ apart)
        size += float(other.astype(numpy.float64) @ other)
        same += int(row.argmax() == other.argmax())
    return Agreement(largest, (difference / size) ** 0.5, same / len(ids), perplexity(ours, ids),
                     perplexity(theirs, ids))
