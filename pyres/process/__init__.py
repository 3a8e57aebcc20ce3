"""All that pyres knows of the kernel: signals, children, titles, pidfiles."""
