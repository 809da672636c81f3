"""Zero-shot editing against its definition: A is orthogonal, the known part stays, the rest is sampled."""

import math

import pytest
import torch

from genkit.errors import DataError
from genkit.levels import Levels, expand
from genkit_consistency import editing

MASK = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
MASK[..., 2:6, 2:6] = True
EDITS = {
    "inpaint": editing.inpainting(MASK),
    "colorize": editing.colorization(),
    "upscale": editing.superresolution(4),
}
each = pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)


def image(seed=0, dtype=torch.float64, count=2):
    return torch.rand(count, 3, 8, 8, dtype=dtype, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@each
def test_the_transform_is_orthogonal_and_its_inverse_inverts(edit):
    x, y = image(0), image(1)
    assert torch.allclose(edit.inverse(edit.forward(x)), x, atol=1e-12)
    assert torch.allclose((edit.forward(x) * edit.forward(y)).sum(), (x * y).sum(), rtol=1e-12)


@each
def test_the_known_part_stays_and_the_rest_is_the_others(edit):
    x, y = image(0), image(1)
    filled = edit.fill(y, x)
    assert torch.allclose(edit.known(filled), edit.known(y), atol=1e-12)
    assert torch.allclose(filled - edit.known(filled), x - edit.known(x), atol=1e-12)
    assert torch.allclose(edit.known(edit.known(y)), edit.known(y), atol=1e-12)


def test_inpainting_keeps_every_known_pixel_bit_for_bit():
    x, y = image(0, torch.float32), image(1, torch.float32)
    assert torch.equal(EDITS["inpaint"].fill(y, x)[..., ~MASK[0, 0]], y[..., ~MASK[0, 0]])


def test_colorization_keeps_the_published_brightness():
    luma = torch.tensor([0.2989, 0.5870, 0.1140], dtype=torch.float64)
    x, y = image(0), image(1)
    brightness = torch.einsum("bchw,c->bhw", EDITS["colorize"].fill(y, x), luma)
    assert torch.allclose(brightness, torch.einsum("bchw,c->bhw", y, luma), atol=1e-12)
    # the published code's transform of (0.1, 0.2, 0.3) starts with this number
    colour = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64).reshape(1, 3, 1, 1)
    assert EDITS["colorize"].forward(colour)[0, 0].item() == pytest.approx(0.2714841666, rel=1e-9)


def test_super_resolution_keeps_the_mean_of_each_patch():
    x, y = image(0), image(1)

    def means(z):
        return torch.nn.functional.avg_pool2d(z, 4)

    assert torch.allclose(means(EDITS["upscale"].fill(y, x)), means(y), atol=1e-12)
    assert torch.allclose(EDITS["upscale"].known(y), means(y).repeat_interleave(4, 2).repeat_interleave(4, 3))


def clean(x, sigma, cond):
    """A denoiser that shrinks: any function of x and sigma will do."""
    return x / (1 + expand(sigma, x).to(x.dtype))


# What the published code gives with this denoiser, 5 of its 6 levels 0.002 … 80, noise z_j = cos(j + 1 + position).
PUBLISHED = {
    "colorize": [0.11217816, 0.084127153, -0.27141817, -1.0067972, 0.538505, -0.88111294, 0.54247164],
    "upscale": [-0.61450182, 0.76420957, -0.48255577, 0.016928148, 0.53569436, -0.74592408, 0.62449451],
}


@pytest.mark.parametrize("task", PUBLISHED)
def test_filling_in_is_the_published_loop(task):
    place = torch.arange(192, dtype=torch.float64).reshape(1, 3, 8, 8)
    edit = editing.superresolution(8) if task == "upscale" else EDITS[task]
    y = place.sin() * 0.9
    given = edit.known(y)

    def draw(j):  # the published loop starts from noise alone, ours from noise around y
        return (place + j).cos() - (given / 80 if j == 0 else 0)

    levels = editing.descending(Levels(), 5)
    x = editing.fill_in(clean, y, edit, draw, {}, levels, 0.002)
    assert x.flatten()[::29].tolist() == pytest.approx(PUBLISHED[task], rel=1e-5, abs=1e-6)


def test_what_is_unknown_of_the_picture_has_no_say():
    edit = EDITS["inpaint"]
    first, other = image(0), image(0)
    other[..., MASK[0, 0]] = 7.0
    noise = [image(j) for j in range(4)]
    levels = editing.descending(Levels(), 4)
    answers = [editing.fill_in(clean, y, edit, lambda j: noise[j], {}, levels, 0.002) for y in (first, other)]
    assert torch.equal(*answers)


@pytest.mark.parametrize("mask", [torch.zeros_like(MASK), torch.ones_like(MASK)])
def test_a_mask_of_nothing_or_all_is_one_line(mask):
    with pytest.raises(DataError, match=r"mask: .*empty|mask: covers all") as error:
        editing.inpainting(mask)
    assert "\n" not in str(error.value)


def test_levels_descend_from_the_largest_and_leave_the_smallest_out():
    levels = editing.descending(Levels(), 39)
    assert len(levels) == 39 and levels[0] == 80
    assert levels == sorted(levels, reverse=True) and levels[-1] > 0.002
    assert levels[22] == pytest.approx(1.382, abs=5e-4)  # index 22 of 40, as the published runs name it


def test_spherical_interpolation_keeps_the_angle_and_the_norm():
    a, b = (torch.randn(3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    b = b * a.norm() / b.norm()
    between = editing.slerp(a, b, torch.tensor([0.0, 0.25, 0.5, 1.0]))
    assert torch.allclose(between[0], a) and torch.allclose(between[3], b)
    assert torch.allclose(between.flatten(1).norm(dim=1), a.norm().expand(4), rtol=1e-12)
    angle = torch.arccos((a * b).sum() / a.norm() ** 2)
    quarter = torch.arccos((between[1] * a).sum() / a.norm() ** 2)
    assert quarter.item() == pytest.approx(angle.item() / 4, rel=1e-9)
    assert torch.allclose(editing.slerp(a, a, torch.tensor([0.3]))[0], a)


def test_interpolation_of_noise_is_the_model_at_that_noise():
    a, b = 80 * image(0)[0], 80 * image(1)[0]
    x = editing.interpolate(clean, a, b, torch.tensor([0.0, 1.0]), 80.0, {})
    assert torch.allclose(x, torch.stack([a, b]) / 81)


def test_the_basis_is_orthogonal_with_the_given_direction_first():
    q = editing.basis([3.0, 4.0])
    assert torch.allclose(q[:, 0], torch.tensor([0.6, 0.8], dtype=torch.float64))
    assert torch.allclose(q.T @ q, torch.eye(2, dtype=torch.float64))
    assert math.isclose(abs(torch.linalg.det(q).item()), 1)
