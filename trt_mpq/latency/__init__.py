"""How long a plan takes: the flow of tensors between kernels, a roofline, tables measured on a GPU."""
