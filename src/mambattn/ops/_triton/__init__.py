"""What the GPU kernels of all ops share; triton itself is imported only when one of them first runs."""
