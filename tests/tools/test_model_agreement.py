"""Tests the measurements of tools/check_logits.py, on logits of known perplexity and distance."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from tiny_models import InputError

import numpy

from realmodel import agreement

IDS = [1, 0, 2, 2]


class Agreement(unittest.TestCase):
    def test_perplexity_of_equal_logits_is_the_size_of_the_vocabulary(self):
        self.assertAlmostEqual(agreement.perplexity(numpy.full((4, 7), 5.0, "f4"), IDS), 7.0)

    def test_perplexity_is_of_each_token_by_the_row_before_it(self):
        share = numpy.array([[.5, .25, .25], [.1, .1, .8], [.2, .2, .6], [1e-9, .5, .5]])
        expected = (0.5 * 0.8 * 0.6) ** (-1 / 3)  # ids 0, 2, 2; the last row predicts nothing
        self.assertAlmostEqual(agreement.perplexity(numpy.log(share) + 300, IDS), expected)

    def test_differences_and_next_tokens_are_counted(self):
        theirs = numpy.array([[0, 3, 4], [0, 0, 12], [0, 0, 0], [0, 5, 0]], "f4")
        ours = theirs.copy()
        ours[0, 1] = 4.5
        found = agreement.compare(ours, theirs, IDS)
        self.assertAlmostEqual(found.largest, 1.5)
        self.assertAlmostEqual(found.relative, 1.5 / (25 + 144 + 25) ** 0.5)
        self.assertEqual(found.same_next, 0.75)
        self.assertEqual(found.ppl_theirs, agreement.perplexity(theirs, IDS))
        self.assertNotEqual(found.ppl_ours, found.ppl_theirs)

    def test_logits_that_do_not_belong_together_are_refused(self):
        logits = numpy.zeros((4, 7), "f4")
        for ours, ids in ((logits[:3], IDS), (logits[:, :6], IDS), (logits, IDS[:3])):
            with self.assertRaisesRegex(InputError, "expected two equal shapes"):
                agreement.compare(ours, logits, ids)
        with self.assertRaisesRegex(InputError, "two tokens"):
            agreement.compare(logits[:1], logits[:1], IDS[:1])


if __name__ == "__main__":
    unittest.main()
