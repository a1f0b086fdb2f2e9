"""Kernels for NVIDIA GPUs: twins of those for the CPU, under the same names.

They take arrays of memory.py in place of NumPy's. Nothing is imported here: target.py needs Numba's
CUDA target, and says what is missing where there is none.
"""
