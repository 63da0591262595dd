import random
import re
import xml.etree.ElementTree as ElementTree

import pytest

from dovetail.report.plots import Box, Point, frontier, pareto, place


def point(name, x, y, baseline=False):
    return Point(name, x, (x * 0.95, x * 1.05), y, (max(0, y - 0.05), min(1, y + 0.05)), baseline)


def test_frontier():
    points = [
        point("a", 1, 0.2),
        point("b", 2, 0.5),
        point("c", 3, 0.4),
        point("d", 4, 0.9),
        point("e", 4, 0.8),
    ]
    assert [p.name for p in frontier(points)] == ["a", "b", "d"]
    assert [p.name for p in frontier([point("a", 1, 0.5), point("twin", 1, 0.5)])] == ["a", "twin"]


@pytest.mark.parametrize("seed", range(20))
def test_labels_do_not_overlap(seed):
    rng = random.Random(seed)
    names = ["greedy", "soft-thinking", "self-consistency", "mixture-of-inputs", "entropy-minimization"]
    names += ["sampling", "cold=sampling:temperature=0.3", "no-thinking", "soft-thinking+self-consistency"]
    # Clouds as real reports have them: most arms at about the same cost and accuracy.
    centres = [(rng.gauss(300, 40), rng.gauss(180, 40)) for _ in names[:7]] + [(800, 60), (120, 300)]
    marks = [Box(x - 8, y - 8, x + 8, y + 8) for x, y in centres]
    boxes = place(names, centres, marks, [], Box(48, 2, 958, 384))
    for i, box in enumerate(boxes):
        assert all(box.overlap(other) == 0 for other in boxes[:i])
        assert box.left >= 48
        assert box.right <= 958
        assert sum(box.overlap(m) for m in marks) <= 16  # a sliver of a mark's margin at most


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize(
    "points",
    [
        [point("only", 100, 0.5, True)],
        [point("zero", 0, 0.0, True), point("full", 10, 1.0)],
        [point("same", 5, 0.3, True), point("place", 5, 0.3)],
        [point("cheap", 1, 0.3, True), point("dear", 900, 0.9)],
        [point("<b>&\"'", 1e-4, 0.3, True), point("b", 2e-4, 0.31)],
    ],
)
def test_svg_is_well_formed_and_inside_its_frame(points, numbered):
    svg = pareto(points, "tokens & <more>", 600, 300, numbered=numbered)
    root = ElementTree.fromstring(svg)
    circles = [c for c in root if c.get("class", "").startswith("mark")]
    assert len(circles) == len(points)
    for c in circles:
        assert 40 <= float(c.get("cx")) <= 600
        assert 0 <= float(c.get("cy")) <= 300
    assert "nan" not in svg
    names = [t.text for t in root if t.get("class", "").startswith("name")]
    assert names == ([str(i + 1) for i in range(len(points))] if numbered else [p.name for p in points])


def test_scale_turns_logarithmic_where_costs_differ_widely():
    near = [point("a", 100, 0.5), point("b", 120, 0.6)]
    assert "log scale" not in pareto(near, "tokens", 600, 300)
    assert "log scale" in pareto([*near, point("c", 1000, 0.7)], "tokens", 600, 300)


def test_a_better_arm_is_drawn_higher_and_a_dearer_one_to_the_right():
    svg = pareto([point("a", 100, 0.5), point("b", 200, 0.8)], "tokens", 600, 300)
    (ax, ay), (bx, by) = re.findall(r'class="mark[^"]*" cx="([\d.]+)" cy="([\d.]+)"', svg)
    assert float(bx) > float(ax)
    assert float(by) < float(ay)
