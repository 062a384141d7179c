import itertools

import numpy as np
import pytest

from pipeline.palette import CONFIDENCE_RAMP

# Machado, Oliveira and Fernandes (2009), severity 1: linear RGB as such eyes see it.
EYES = {
    "trichromat": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanope": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranope": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanope": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
WHITE = np.array([0.95047, 1.0, 1.08883])
# CIELAB: 2.3 is just noticeable; ten times that is told apart in marks of a few pixels.
CLEAR = 23.0


def _lab(colour, eye):
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = XYZ @ np.clip(np.array(EYES[eye]) @ linear, 0, 1) / WHITE
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eye", EYES)
def test_every_eye_tells_the_classes_of_confidence_apart(eye):
    seen = [_lab(colour, eye) for _, colour in CONFIDENCE_RAMP]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) >= CLEAR


def test_the_classes_begin_at_nothing_and_rise():
    begins = [begin for begin, _ in CONFIDENCE_RAMP]
    assert begins == sorted(set(begins))
    assert begins[0] == 0.0
    assert begins[-1] < 1.0
