import torch

from benchmarks.products import Product, Products, flops, matmuls


def test_products_are_counted_with_their_types_backward_passes_included():
    a, b = torch.randn(2, 3, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    with Products() as seen:
        (a @ b).sum().backward()
        torch.randn(5, 2, 3, dtype=torch.bfloat16) @ torch.randn(5, 3, 4, dtype=torch.bfloat16)
    assert seen.found == {
        Product(2, 3, 4): 1,
        Product(2, 4, 3): 1,
        Product(3, 2, 4): 1,
        Product(2, 3, 4, torch.bfloat16, 5): 1,
    }
    assert flops(seen.found) == 2 * 24 * (3 + 5)


def test_a_convolution_counts_as_the_product_of_its_unfolded_input():
    x, layer = torch.randn(2, 3, 8, 8), torch.nn.Conv2d(3, 5, 3, padding=1)
    with Products() as seen:
        layer(x)
    assert seen.found == {Product(2 * 64, 27, 5): 1}


def test_the_same_products_alone_are_the_same_products():
    found = {Product(20, 30, 40): 2, Product(20, 30, 40, torch.bfloat16, 3): 1}
    work = matmuls(found)
    with Products() as seen:
        work()
    assert flops(seen.found) == flops(found) == 2 * 24000 * 5
