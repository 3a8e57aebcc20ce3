"""All access to the operating system's processes: signals, children, titles, pidfiles."""
