"""Operations whose gradients are written by hand, each beside the plain formula that it must equal."""
