"""What the words of a report mean, for readers who did not train the run."""

from collections.abc import Mapping

from sltdino.report.web.html import Section, facts, section

WORDS: Mapping[str, str] = {
    "backbone, features": "The network that is kept after training, and the numbers that it turns an image into.",
    "student, teacher": "The student learns to give each crop of an image the answer that the teacher gives other "
    "crops of it. The teacher is a slow average of the student, and what is kept.",
    "k-NN": "An image gets the label of the images whose features are nearest: a test of features as they are.",
    "linear probe": "A linear classifier on the features: what a simple next stage can get out of them.",
    "untrained, raw pixels": "The same test on the network before training and on plain pixels: what has to be beaten.",
    "95% interval": "Where the accuracy would lie in 95 of 100 such tests on other images (or signers, where said).",
    "CLS, patches": "CLS is the feature of a whole image; a patch is a square of it, with a feature of its own.",
    "prototypes, K": "The K directions that features are compared with; an answer is how much it is each of them.",
    "nats, ln K": "The unit of the loss; ln K is the loss of answers that favour no prototype, so of knowing nothing.",
    "collapse": "All images get one answer (one-point) or answers that favour nothing (uniform): nothing is learned.",
    "RankMe": "About how many independent directions the features use; a fall to a few is a collapse.",
    "KoLeo": "A term of the loss that keeps the features of different images apart.",
}


def glossary_section() -> Section:
    """The section that explains them."""
    return section("words", "Words: what they mean", facts(WORDS.items()))
