import itertools

import pytest
import torch

from tttkd_ros.segmenter.curves import codes, hilbert, z_order


def full(count, depth):
    return torch.full((count,), depth)


def cube(depth):
    return torch.tensor(list(itertools.product(range(2**depth), repeat=3)))


def curve(depth):
    """The cells of Hilbert's curve in its order, made of eight smaller curves, each mirrored and turned."""
    if not depth:
        return [(0, 0, 0)]
    half, cells = 2 ** (depth - 1), []
    for number in range(8):
        corner = [(number ^ number >> 1) >> shift & 1 for shift in (2, 1, 0)]  # Gray code: one coordinate changes
        part = curve(depth - 1)
        for cell in reversed(part) if number % 2 else part:
            cell = list(cell)
            for axis in (2, 1, 0):
                if corner[axis]:
                    cell[0] = half - 1 - cell[0]
                else:
                    cell[0], cell[axis] = cell[axis], cell[0]
            cells.append(tuple(value + half * bit for value, bit in zip(cell, corner, strict=True)))
    return cells


def test_the_z_order_interleaves_bits():
    cells = torch.randint(0, 2**16, (50, 3))
    cells[0] = 2**16 - 1
    bits = [[f"{value:016b}" for value in cell] for cell in cells.tolist()]
    assert z_order(cells).tolist() == [int("".join(map("".join, zip(*cell, strict=True))), 2) for cell in bits]


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_the_hilbert_order_is_the_recursive_curve(depth):
    cells = torch.tensor(curve(depth))
    assert torch.equal(hilbert(cells, full(8**depth, depth)), torch.arange(8**depth))


def test_the_hilbert_code_of_skillings_example():
    assert hilbert(torch.tensor([[5, 10, 20]]), full(1, 5)).tolist() == [7865]


@pytest.mark.parametrize("depth", [1, 4])
def test_the_hilbert_order_visits_every_cell_and_steps_to_a_neighbour(depth):
    cells, code = cube(depth), hilbert(cube(depth), full(8**depth, depth))
    assert torch.equal(code.sort().values, torch.arange(8**depth))
    assert (cells[code.argsort()].diff(dim=0).abs().sum(1) == 1).all()


def test_a_cell_has_the_code_of_its_own_cube():
    cells = torch.randint(0, 2**5, (300, 3))
    depth = torch.randint(5, 17, (300,))
    alone = torch.stack([codes(cells[[row]], depth[[row]])[:, 0] for row in range(300)], 1)
    assert torch.equal(codes(cells, depth), alone)


def test_a_coarser_cell_has_the_first_digits_of_a_code():
    cells = torch.randint(0, 2**16, (300, 3))
    assert torch.equal(codes(cells, full(300, 16)) >> 6, codes(cells >> 2, full(300, 14)))


def test_the_four_orders_are_z_and_hilbert_and_both_with_x_and_y_swapped():
    cells, depth = torch.randint(0, 2**7, (100, 3)), full(100, 7)
    swapped = cells[:, [1, 0, 2]]
    expected = [z_order(cells), z_order(swapped), hilbert(cells, depth), hilbert(swapped, depth)]
    assert torch.equal(codes(cells, depth), torch.stack(expected))


def test_no_cells_have_no_codes():
    assert codes(torch.empty(0, 3, dtype=torch.int64), full(0, 1)).shape == (4, 0)


@pytest.mark.parametrize(("cell", "depth", "message"), [(0, 17, "0 to 16"), (4, 2, "outside"), (-1, 2, "outside")])
def test_a_cell_without_a_code_is_refused(cell, depth, message):
    with pytest.raises(ValueError, match=message):
        codes(torch.full((1, 3), cell), full(1, depth))
