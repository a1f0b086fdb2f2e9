"""CUDA kernels: the counterparts of the CPU's, under the same names.

They take arrays of runtime/memory.py in place of NumPy's. Nothing is imported here, since
runtime/target.py raises ImportError where Numba's CUDA target is not installed.
"""
